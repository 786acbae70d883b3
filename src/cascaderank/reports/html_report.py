"""Write the report of runs, or of a comparison, as one HTML file."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from cascaderank.errors import ConfigError
from cascaderank.extras import require
from cascaderank.progress import Progress
from cascaderank.reports._html.blocks import Chapter
from cascaderank.reports._html.comparison_chapter import comparison_chapter
from cascaderank.reports._html.comparison_record import is_comparison
from cascaderank.reports._html.page import page_of, picture_paths, write_pictures
from cascaderank.reports._html.reported_run import different_parts
from cascaderank.reports._html.run_chapter import MOST_REQUESTS, run_chapter
from cascaderank.reports._html.runs_chapter import runs_chapter
from cascaderank.runs.new_files import check_free, new_file


@final
@dataclass(frozen=True, kw_only=True)
class WrittenReport:
    """What :func:`write_report` has written."""

    bytes: int
    """Size of the HTML file."""
    chapters: dict[str, str]
    """Verdict of each chapter by its title."""
    pictures: int
    """Number of pictures."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict."""
        return asdict(self)


def write_report(
    folders: Sequence[str | os.PathLike[str]],
    to: str | os.PathLike[str],
    *,
    dataset: str | os.PathLike[str] | None = None,
    with_data: bool = True,
    most_requests: int = MOST_REQUESTS,
    pictures: str | os.PathLike[str] | None = None,
    title: str = "cascaderank report",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> WrittenReport:
    """Write the report of runs, or of comparisons, as one HTML file.

    The file contains its pictures and its style sheet; it needs no network and no JavaScript. The
    report of a comparison includes that of a run of its best method.

    Args:
        folders: folders of complete runs and comparisons, at least one.
        to: HTML file to write.
        dataset: folder of the data set that they were trained on; by default where it was then.
        with_data: whether the data set is read. Without it, sections that need scores are left out.
        most_requests: largest number of test requests of a run that are scored, at equal distances.
        pictures: folder for the pictures as PNG and SVG files; ``None`` for none.
        title: title of the page.
        overwrite: whether existing files are replaced.
        progress: receives the progress of the work.

    Raises:
        ConfigError: if a file exists, no folder or one twice is given, or ``most_requests`` is not
            positive.
        RunError: if a folder does not hold a complete run or comparison, or a file cannot be
            written.
        DataError: if the data set is missing, damaged, or another one.
        MissingExtraError: if Jinja2 or matplotlib is not installed.
    """
    if not folders:
        raise ConfigError("expected the folder of a run or of a comparison; got none")
    twice = [name for name, n in Counter(os.path.realpath(f) for f in folders).items() if n > 1]
    if twice:
        raise ConfigError(f"{twice[0]} is given twice; name each run once")
    if most_requests < 1:
        raise ConfigError(f"most_requests must be at least 1; got {most_requests}")
    if not with_data and dataset is not None:
        raise ConfigError("a data set is named, and not to be read; leave one of both out")
    check_free([to], overwrite=overwrite)
    for module in ("jinja2", "matplotlib"):
        require(module, extra="report")
    chapters: list[Chapter] = []
    options: dict[str, Any] = {"dataset": dataset, "with_data": with_data, "progress": progress}
    parts = different_parts(folders)
    for i, folder in enumerate(folders, start=1):
        key = str(i) if len(folders) > 1 else ""
        run: Path | None = Path(folder)
        name: str | None = None
        if is_comparison(folder):
            chapter, run = comparison_chapter(folder, key=f"comparison{key}", **options)
            chapters.append(chapter)
            name = f"In detail: {run.relative_to(folder)}" if run else None
        if run is not None:
            chapters.append(
                run_chapter(
                    run,
                    key=f"run{key}",
                    title=name,
                    numbered=(i, parts[i - 1]) if run == Path(folder) and parts[1:] else None,
                    most_requests=most_requests,
                    **options,
                )
            )
    if len(folders) > 1 and not any(map(is_comparison, folders)):
        chapters.insert(0, runs_chapter(folders))
    if pictures is not None:
        check_free(picture_paths(chapters, pictures), overwrite=overwrite)
    content = page_of(chapters, title=title).encode()
    with new_file(to) as hidden:
        hidden.write_bytes(content)
    if pictures is not None:
        write_pictures(chapters, pictures)
    return WrittenReport(
        bytes=len(content),
        chapters={chapter.title: chapter.verdict for chapter in chapters},
        pictures=sum(len(chapter.pictures) for chapter in chapters),
    )
