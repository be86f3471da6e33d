"""`scripts/benchmark quality`: what each shortcut costs the picture, on `shapes`."""
