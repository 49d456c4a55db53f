"""What is shown: the result record, the database, ranking, and the Streamlit app."""
