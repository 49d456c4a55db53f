"""The source ``origin``: the files that the authors of a data set publish."""

import shutil

from tasks.prepare.origins import ORIGINS, origin
from tasks.prepare.source import Items, Request, Source


def read(request: Request) -> Items:
    """Read the items from the published files, which are downloaded unless the user has them already.

    Raises:
        UserError: files cannot be downloaded or extracted, or are not this data set.
    """
    from tasks.prepare.fetch import fetch, needed, prepare_source

    task, published = request.task, origin(request.task.name)
    if request.directory is not None:
        root = prepare_source(request.directory, request.workspace / "extracted", request.report)
    else:
        directory = request.workspace / "downloaded"
        size = needed(published, directory)
        if size:
            free = shutil.disk_usage(task.root.parent).free
            request.say(
                f"{task.name}: {size / 1e9:.1f} GB to download into {directory}; {free / 1e9:.1f} GB are free there."
            )
        root = fetch(task.name, published, directory, request.report)
    return Items(published.read(root), root, published.rate)


SOURCE = Source(
    help="downloaded from where its authors publish it",
    needs="a network, or --source: the directory of the published files; for the data sets of Kaggle its client",
    has=lambda task: task.name in ORIGINS.names(),
    read=read,
)
