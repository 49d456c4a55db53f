"""The Streamlit pages, their charts, tables and exports."""
