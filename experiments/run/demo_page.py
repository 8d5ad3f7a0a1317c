"""The page of the demo, in gradio."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.run.demo_answers import MAX_CHARACTERS, Asked, Desk, as_html
from gl_ris.defaults import usual_shares
from gl_ris.errors import UserError, in_short
from gl_ris.rerank.base import CHOICES

MAX_BYTES = 32 << 20  # of an upload
_WAITING = 32  # questions in the queue; more are refused
_INSTALL = "pip install 'gl-ris[demo]'"
_TITLE = "Zero-shot referring image segmentation"
_CSS = """
.failed {font-weight: 600; border-left: 4px solid #d9480f; padding-left: 0.6em; overflow-wrap: anywhere}
.told {margin: 0.2em 0}
#understood table {width: 100%} #understood th {text-align: left; width: 1%; white-space: nowrap}
#ranking .grid-container {grid-template: none / repeat(auto-fill, minmax(8.5rem, 1fr)) !important}
#ranking .grid-wrap {min-height: 0 !important; max-height: none !important}
textarea {unicode-bidi: plaintext}
"""


@dataclass
class Server:
    """Where the page is.

    Args:
        host: The address that is listened on: this machine alone by default; 0.0.0.0 lets everyone in who can
            reach the machine.
        port: The port; null takes the first free one from 7860 on.
    """

    host: str = "127.0.0.1"
    port: int | None = None

    def serve(self, page: Any) -> str:
        """Serve a page from threads of this process; return its address, or raise a `UserError`."""
        import gradio

        # those of the system: gradio's own would be fetched
        theme = gradio.themes.Default(
            font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        )
        switches = ("share", "ssr_mode", "mcp_server", "pwa", "enable_monitoring", "run_history", "inbrowser")
        try:
            page.launch(
                server_name=self.host,
                server_port=self.port,
                max_file_size=MAX_BYTES,
                prevent_thread_lock=True,
                quiet=True,
                footer_links=[],
                css=_CSS,
                theme=theme,
                **dict.fromkeys(switches, False),
            )
        except (OSError, OverflowError) as error:
            raise UserError(
                f"Nothing can listen on host={self.host} port={self.port} ({in_short(error)}); "
                "give another port=, or host=127.0.0.1."
            ) from error
        return str(page.local_url)


def require_gradio(uploads: Path) -> None:
    """Let gradio keep uploads in a folder and tell nobody of it; a `UserError` where it is not installed."""
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise UserError(f"The demo needs gradio ({in_short(error)}); {_INSTALL} installs it.") from error


def make_page(desk: Desk, examples: list[list[str]]) -> Any:
    """Make the page of a desk, a ``gradio.Blocks``; examples are pairs of a file and a sentence."""
    import gradio

    gr: Any = gradio  # its types know no arguments by name that are shared

    def answer(file: str | None, text: str, *settings: Any) -> tuple[Any, ...]:
        found = desk.answer(file, text, Asked(*settings))
        notice, understood = as_html(found)
        return found.picture, notice, found.ranking, understood

    generators, share = list(desk.models.generators()), {"minimum": 0, "maximum": 1, "step": 0.05}
    plain: dict[str, Any] = {"buttons": ["download", "fullscreen"], "format": "png"}
    with gr.Blocks(title=_TITLE, analytics_enabled=False) as page:
        gr.Markdown(
            f"# {_TITLE}\nA picture and a sentence in, the mask that is meant out. `{desk.models.clip}`"
        )
        usual = usual_shares(desk.models.clip)
        with gr.Row():
            with gr.Column():
                picture = gr.Image(
                    label="Picture", sources=["upload", "clipboard"], height=300, elem_id="picture"
                )
                # gradio would open the file, and answer with an error of its own where it cannot
                picture.preprocess = lambda payload: payload and payload.path
                text = gr.Textbox(
                    label="What to look for",
                    placeholder="the red star on the left",
                    max_length=MAX_CHARACTERS,
                    elem_id="text",
                )
                button = gr.Button("Find it", variant="primary", elem_id="find")
                notice, understood = gr.HTML(elem_id="notice"), gr.HTML(elem_id="understood")
            with gr.Column():
                best = gr.Image(label="The mask that is meant", interactive=False, elem_id="best", **plain)
                alpha = gr.Slider(value=usual.alpha, label="alpha: share of the whole picture", **share)
                beta = gr.Slider(value=usual.beta, label="beta: share of the whole sentence", **share)
                rerank = gr.Radio(list(CHOICES), value=Asked.rerank, label="Ranked anew by", elem_id="rerank")
                with gr.Row():
                    method = gr.Dropdown(desk.models.methods(), value=Asked.method, label="Scorer")
                    masks = gr.Dropdown(generators, value=generators[0], label="Masks by")
        ranking = gr.Gallery(
            label="Best masks", height="auto", object_fit="contain", elem_id="ranking", **plain
        )
        drawn = gr.Dataset(components=[picture, text], samples=examples, type="index", label="Examples")
        settings = [alpha, beta, rerank, method, masks]
        shared: dict[str, Any] = {
            "fn": answer,
            "inputs": [picture, text, *settings],
            "outputs": [best, notice, ranking, understood],
            "show_progress_on": best,
            "concurrency_id": "models",
            "concurrency_limit": 1,
            "api_visibility": "private",
        }
        gr.on([button.click, text.submit], **shared)
        # gr.Examples would replace the components, and the preprocess of one with it
        taken = drawn.click(lambda n: examples[n], drawn, [picture, text], api_visibility="private")
        taken.success(**shared)
        gr.on([one.change for one in settings], trigger_mode="always_last", show_progress="hidden", **shared)
    return page.queue(max_size=_WAITING)
