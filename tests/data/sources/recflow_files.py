"""Files in the layout of RecFlow, made by chance or row by row."""

import pickle
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl

FLAGS = (
    "realshow",
    "rerank_pos",
    "rerank_neg",
    "rank_pos",
    "rank_neg",
    "coarse_neg",
    "prerank_neg",
)
MARKS = ("playing_time", "effective_view", "long_view", "like", "follow", "forward", "comment")
PARENTS = {"rerank_pos": "rank_pos", "rerank_neg": "rank_pos"}
UPLOADED = 1_700_000_000  # 2023-11-14 22:13:20 UTC


def row(request, video, level, index=None, **columns):
    """One row of ``all_stage``; ``level`` is the highest flag that is set, or none."""
    flags = dict.fromkeys(FLAGS, 0)
    if level:
        flags |= {level: 1, **({PARENTS[level]: 1} if level in PARENTS else {})}
    ranked = "rerank_index" if level in PARENTS else "rank_index"
    return {
        "request_id": request,
        "user_id": request % 7,
        "request_timestamp": 1_705_100_000_000 + 1000 * request,  # 2024-01-12 22:53:20 UTC
        "device_id": 100 + request % 7,
        "age": request % 3,
        "gender": request % 2,
        "province": request % 5,
        "video_id": video,
        "author_id": 1000 + video,
        "category_level_one": video % 4,
        "category_level_two": video % 9,
        "upload_type": video % 2,
        "upload_timestamp": UPLOADED + video,
        "duration": 10,
        **flags,
        "rank_index": -1,
        "rerank_index": -1,
        **({} if index is None else {ranked: index}),
        **dict.fromkeys(MARKS, 0),
        **columns,
    }


def history(entries, *, width=10, length=50):
    """Left-padded: of each entry its video, author, two categories, upload type and time."""
    array = np.zeros((length, width), dtype=np.int64)
    for i, (video, author, one, two, upload, at) in enumerate(entries, length - len(entries)):
        array[i, [0, 1, 3, 2, 4, 7]] = video, author, one, two, upload, at
    return array


def write_day(folder, day, rows, histories, *, protocol=4, batch=3):
    """Write both files of a day; rows are dictionaries or a frame."""
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
    for place in ("all_stage", "seq_effective_50_dict"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    path = folder / "all_stage" / f"{day}.feather"
    frame.write_ipc(path, compression="lz4", record_batch_size=batch)
    content = pickle.dumps(histories, protocol=protocol)
    (folder / "seq_effective_50_dict" / f"{day}.pkl").write_bytes(content)
    return folder


def made_day(day, requests, *, seed=0, pools=None, entries=50, videos=5_000, ragged=True):
    """A frame and histories of a day in Shanghai, by chance; ``pools`` is how many of each level.

    Of the videos of ``rank_pos``, those of the better half of ``rank_index`` are ``rerank_pos``.
    Users like one category each; the funnel prefers it, so that there is something to learn.
    """
    rng = np.random.default_rng([seed, int(day.replace("-", ""))])
    pools = pools or {"prerank_neg": 12, "coarse_neg": 12, "rank_neg": 12, "rank_pos": 20}
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("Asia/Shanghai"))
    first = int(day.replace("-", "")) * 1_000_000
    when = int(start.timestamp() * 1000) + rng.integers(0, 86_400_000, requests)
    user = rng.integers(0, 50, requests)
    counts = {
        level: rng.integers(size // 2, size + 1, requests)
        if ragged
        else np.full(requests, size, dtype=np.int64)
        for level, size in pools.items()
    }
    blocks = []
    for level, count in counts.items():
        request = np.repeat(np.arange(requests), count)
        index = np.arange(len(request)) - np.repeat(np.cumsum(count) - count, count)
        liked = rng.random(len(request)) < (0.8 if level == "rank_pos" else 0.2)
        video = rng.integers(0, videos // 10, len(request)) * 10
        video += np.where(liked, user[request] % 10, rng.integers(0, 10, len(request)))
        ranked = level in ("rank_neg", "rank_pos")
        block = {name: np.full(len(request), name == level, np.int64) for name in FLAGS}
        if level == "rank_pos":
            block["rerank_pos"] = (index < 10).astype(np.int64)
            block["rerank_neg"] = 1 - block["rerank_pos"]
        block["realshow"] = block["rerank_pos"] * (index < 6)
        block["rank_index"] = index if ranked else np.full_like(index, -1)
        reranked = np.where(index < 10, index, index - 10)
        block["rerank_index"] = reranked if level == "rank_pos" else np.full_like(index, -1)
        for mark in MARKS:
            block[mark] = block["realshow"] * rng.integers(0, 2, len(request))
        blocks.append(pl.DataFrame({"request": request, "video_id": video, **block}))
    rows = pl.concat(blocks)
    rows = rows[rng.permutation(rows.height)]
    request, video = rows["request"].to_numpy(), rows["video_id"].to_numpy()
    frame = rows.drop("request").with_columns(
        request_id=pl.Series(first + request),
        user_id=pl.Series(user[request]),
        request_timestamp=pl.Series(when[request]),
        device_id=pl.Series(100 + user[request]),
        age=pl.Series(user[request] % 6),
        gender=pl.Series(user[request] % 2),
        province=pl.Series(user[request] % 30),
        author_id=pl.Series(video % 300),
        category_level_one=pl.Series(video % 10),
        category_level_two=pl.Series(video % 40),
        upload_type=pl.Series(video % 3),
        upload_timestamp=pl.Series(UPLOADED + 97 * video),
        duration=pl.Series(5 + video % 60),
    )
    seen = rng.integers(0, videos // 10, (requests, entries)) * 10 + (user % 10)[:, None]
    before = np.zeros((requests, entries, 10), np.int64)
    for column, values in enumerate(
        (seen, seen % 300, seen % 40, seen % 10, seen % 3, UPLOADED + 97 * seen, 5 + seen % 60)
    ):
        before[:, :, column] = values
    before[:, :, 7] = when[:, None] - 1000 * np.arange(entries, 0, -1)
    empty = np.arange(entries) < rng.integers(0, entries // 2, requests)[:, None]
    before[empty] = 0
    return frame, {int(first + r): before[r] for r in range(requests)}


def write_days(folder, days, requests=30, *, first="2024-01-13", **options):
    """Write made days one after another."""
    start = datetime.fromisoformat(first).date()
    for i in range(days):
        day = (start + timedelta(days=i)).isoformat()
        write_day(folder, day, *made_day(day, requests, **options), batch=500)
    return folder
