"""Between Triton's Python backend and plain Python: what each ``model.py`` uses to stay thin.

Nothing here imports ``triton_python_backend_utils``, which exists only inside a server's stub: each ``model.py``
hands it over.
"""
