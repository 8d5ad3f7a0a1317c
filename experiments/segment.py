"""What expressions refer to in one's own photos: ``python -m experiments.segment photo.jpg "a dog"``."""

import sys

from experiments.cli.command import Command, run

COMMAND = Command.documented("segment")


def main() -> None:
    """Answer what the command line asks."""
    from experiments.cli.photo_words import apart, images_in, line_of, read_settings
    from experiments.run.folder import RunFolder
    from experiments.run.photos import Photos

    words, options = apart(sys.argv[1:])
    images = images_in(words)
    segmenter, settings, config = read_settings(COMMAND, options)
    place = RunFolder(COMMAND.name, config.run_dir, config.overwrite, resumable=False)
    Photos(segmenter, images, words[1:], settings).answer(COMMAND, place, line_of(words, options))


if __name__ == "__main__":
    run(COMMAND, main)
