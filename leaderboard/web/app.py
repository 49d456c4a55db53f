"""The Streamlit app: ``streamlit run leaderboard/web/app.py``.

`leaderboard.web.serve` starts it with theme and addresses.
"""

import os
from urllib.parse import urlsplit

import streamlit as st

from leaderboard.database.store import Store
from leaderboard.web import text
from leaderboard.web.views import board, board_table, compare, efficiency, guide, submission, task
from tasks.support.errors import UserError
from tasks.support.home import Home

_STYLE = """
[data-testid="stMainBlockContainer"] {padding: 4.5rem clamp(1rem, 4vw, 4rem) 3rem}
.facts {display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; font-size: .95rem}
.facts span:nth-child(odd) {opacity: .65}
.facts span:nth-child(even) {overflow-wrap: anywhere}
.facts a {color: inherit}
@media (max-width: 640px) {
  h1 {font-size: 1.9rem !important}
  :is(.st-key-choices, .st-key-cards) [data-testid="stColumn"] {min-width: calc(50% - 1rem)}
}
"""


@st.cache_resource(show_spinner=False)
def open_store(database_url: str) -> Store:
    """Open the store. There is one per process, so that the schema is checked once."""
    return Store(database_url)


def mlflow_server() -> str | None:
    """The MLflow server that shows this home's runs, at the address that browsers use; None without a server.

    ``BEANS_MLFLOW_URL`` sets the address. Without this variable it is the server that was started with the board, on
    the host name in the reader's address bar.

    Raises:
        UserError: BEANS_MLFLOW_URL is not a web address.
    """
    named = os.environ.get("BEANS_MLFLOW_URL")
    if named:
        if (address := text.web_address(named)) is None:
            raise UserError(
                "BEANS_MLFLOW_URL is not a web address: write for example https://mlflow.example.org "
                "and start the board again."
            )
        return address
    port = os.environ.get("BEANS_MLFLOW_PORT")
    host = urlsplit(st.context.url or "").hostname or "localhost"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}" if port else None


def main() -> None:
    """Draw the page that the browser's address names."""
    st.set_page_config(page_title="BEANS probe", page_icon="🐾", layout="wide")
    home = Home.from_environment()
    store = open_store(home.database_url)

    def show_board() -> None:
        mlflow = board_table.MLflow(home.tracking_uri, mlflow_server())
        board.show(store, home.records, mlflow, compare_page)

    def show_submission() -> None:
        submission.show(store, home.records, tracking_uri=home.tracking_uri, mlflow=mlflow_server())

    def show_compare() -> None:
        compare.show(store, home.records, tracking_uri=home.tracking_uri, mlflow=mlflow_server())

    def show_task() -> None:
        mlflow = board_table.MLflow(home.tracking_uri, mlflow_server())
        task.show(store, home.data, mlflow)

    def show_efficiency() -> None:
        efficiency.show(store)

    board_page = st.Page(show_board, title="Leaderboard", icon=":material/leaderboard:", default=True)
    submission_page = st.Page(show_submission, title="Backbone", icon=":material/graphic_eq:", url_path="submission")
    compare_page = st.Page(show_compare, title="Compare", icon=":material/compare_arrows:", url_path="compare")
    task_page = st.Page(show_task, title="Task", icon=":material/library_music:", url_path="task")
    efficiency_page = st.Page(show_efficiency, title="Efficiency", icon=":material/speed:", url_path="efficiency")
    submit_page = st.Page(guide.submit, title="Submit", icon=":material/upload:", url_path="submit")
    about_page = st.Page(guide.about, title="About", icon=":material/info:", url_path="about")
    st.html(f"<style>{_STYLE}</style>")
    page = st.navigation(
        [board_page, submission_page, compare_page, task_page, efficiency_page, submit_page, about_page], position="top"
    )
    try:
        page.run()
    except UserError as error:
        st.error(text.markdown(str(error)))


if __name__ == "__main__":
    main()
