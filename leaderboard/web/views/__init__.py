"""One module a page. Not called ``pages``: Streamlit serves the files of such a directory by itself."""
