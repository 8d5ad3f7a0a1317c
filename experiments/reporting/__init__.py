"""From result documents to what is shown: tables, figures, files."""
