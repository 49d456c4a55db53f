"""The leaderboard: result records, the database, the ranking, and the Streamlit app."""
