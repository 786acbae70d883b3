"""Small files in the official layouts of KuaiRand and KuaiRec."""

import random

import polars as pl

DAY = 86_400_000
MIDNIGHT = 1_650_816_000_000  # 2022-04-25 00:00 in Shanghai
USER_ROWS = {"user_active_degree": "full_active", "is_live_streamer": 1, "register_days": 100}


def users(ids):
    return pl.DataFrame(
        {
            "user_id": ids,
            "user_active_degree": ["full_active" if i % 2 else "UNKNOWN" for i in ids],
            "fans_user_num": [10 * i for i in ids],
            "onehot_feat0": [i % 3 for i in ids],
            "onehot_feat4": [None if i == ids[0] else float(i) for i in ids],
        }
    )


def rand_exposures(seed=0, rows=120, user_ids=(1, 2, 3, 4), video_ids=tuple(range(12)), days=4):
    """Exposures in order of time, some at the same one, some of the same video."""
    chance = random.Random(seed)
    times = sorted(MIDNIGHT + chance.randrange(days * DAY // 1000) * 1000 for _ in range(rows))
    return pl.DataFrame(
        [
            {
                "user_id": chance.choice(user_ids),
                "video_id": chance.choice(video_ids),
                "time_ms": time,
                "is_click": chance.randrange(2),
                "is_like": chance.randrange(2),
                "long_view": chance.randrange(2),
                "play_time_ms": chance.choice([0, 3000, 5000, 7000, 7001, 30_000]),
                "duration_ms": chance.choice([0, 4000, 5000, 7000, 9000, 60_000]),
            }
            for time in times
        ]
    )


def rand_videos(ids=tuple(range(14))):
    return pl.DataFrame(
        {
            "video_id": ids,
            "author_id": [100 + i % 5 for i in ids],
            "video_type": ["NORMAL" if i else "AD" for i in ids],
            "video_duration": [None if i == 3 else 1000.0 * i for i in ids],
            "music_type": [float(i % 4) for i in ids],
            "tag": [f"{i},{i + 1}" if i % 2 else str(i) for i in ids],
        }
    )


def histories(ids=(1, 2)):
    return pl.DataFrame(
        {
            "user_id": ids,
            "last_time_ms": [MIDNIGHT - 1 - i for i in ids],
            "exposed_video_ids": [[i, 13, 90 + i] for i in ids],
            "liked_video_ids": [[] for _ in ids],
            "long_viewed_video_ids": [[13] for _ in ids],
        }
    )


def write_rand(folder, exposures=None, *, before=None, official=False, videos=None, people=None):
    folder.mkdir(exist_ok=True, parents=True)
    exposures = rand_exposures() if exposures is None else exposures
    videos = rand_videos() if videos is None else videos
    people = users([1, 2, 3]) if people is None else people
    if official:
        half = exposures.height // 2
        exposures[:half].write_csv(folder / "log_standard_4_08_to_4_21_pure.csv")
        exposures[half:].write_csv(folder / "log_standard_4_22_to_5_08_pure.csv")
        people.write_csv(folder / "user_features_pure.csv")
        videos.write_csv(folder / "video_features_basic_pure.csv")
        (folder / "video_features_statistic_pure.csv").write_text("not to be opened")
    else:
        exposures.write_parquet(folder / "exposures.parquet")
        people.write_parquet(folder / "user_features.parquet")
        videos.write_parquet(folder / "video_features_basic.parquet")
    if before is not None:
        before.write_parquet(folder / "user_histories.parquet")
    return folder


def write_rec(
    folder, *, user_ids=(0, 5, 7), video_ids=tuple(range(6)), seed=0, inside=False, rows=12
):
    """KuaiRec: both matrices, tables of users and videos; some times are unknown in the small."""
    data = folder / "data" if inside else folder
    data.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    start = MIDNIGHT / 1000

    def table(pairs):
        return pl.DataFrame(
            [
                {
                    "user_id": u,
                    "video_id": v,
                    "play_duration": chance.randrange(12_000),
                    "video_duration": chance.choice([3_000, 7_000, 10_000]),
                    "time": "not read",
                    "date": 20200705,
                    "timestamp": t,
                    "watch_ratio": 0.5,
                }
                for u, v, t in pairs
            ]
        )

    big = [
        (u, chance.choice(video_ids), start + chance.randrange(3 * 86_400) + 0.438)
        for u in user_ids
        for _ in range(rows)
    ]
    small = [(u, v, None if v == 2 else start + v) for u in user_ids[1:] for v in video_ids[1:]]
    table(big).write_csv(data / "big_matrix.csv")
    table(small).write_csv(data / "small_matrix.csv")
    users(list(user_ids)).write_csv(data / "user_features.csv")
    pl.DataFrame(
        {"video_id": video_ids, "feat": [str([v, v + 1][: 1 + v % 2]) for v in video_ids]}
    ).write_csv(data / "item_categories.csv")
    pl.DataFrame(
        [
            {
                "video_id": v,
                "date": 20200700 + day,
                "author_id": v % 3,
                "video_type": "NORMAL",
                "video_duration": None if v == 1 else 1000.0 * v,
                "play_cnt": 10 * day,
            }
            for day in (2, 1)
            for v in video_ids
        ]
    ).write_csv(data / "item_daily_features.csv")
    return folder
