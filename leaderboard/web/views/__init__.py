"""One module per page. The folder is not called ``pages``, since Streamlit serves such a folder by itself."""
