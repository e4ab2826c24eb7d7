"""Small benchmark folders in the published layouts, with real video files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
from PIL import Image

from prunesweep.benchmarks.mvbench import TASKS

QUESTION = {"question": "what happens?", "candidates": ["it falls", "it stays", "it jumps"], "answer": "it stays"}


def put(video: Path, *places: Path) -> None:
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(video, place)


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def change(file: Path, *changes: dict[str, Any]) -> None:
    """The first item of a list, and as many again as there are changes, each with its own."""
    first = json.loads(file.read_text())[0]
    write_json(file, [first, *({**first, "id": f"changed-{i}", **one} for i, one in enumerate(changes))])


def draw_frames(folder: Path, count: int) -> None:
    folder.mkdir(parents=True)
    for number in range(1, count + 1):
        Image.new("RGB", (48, 32), (10 * number, 0, 0)).save(folder / f"{number:05d}.jpg", quality=95)


def mvbench(root: Path, video: Path) -> Path:
    """One question per task."""
    for name, task in TASKS.items():
        bounds = {"start": 0.2, "end": 0.8} if task.bounded else {}
        item = {"video": "a" if task.frames else "a.mp4", **QUESTION, **bounds}
        write_json(root / "json" / f"{name}.json", [item])
        if not task.frames:
            put(video, root / "video" / task.folder / "a.mp4")
    draw_frames(root / "video" / TASKS["episodic_reasoning"].folder / "a", 6)
    return root


ROW = {
    "videoID": "yt1",
    "duration": "short",
    "question_id": "001-1",
    "question": "what happens?",
    "options": ["A. it falls", "B. it stays", "C. it jumps", "D. it ends"],
    "answer": "B",
}
SRT = """1
00:00:00,100 --> 00:00:00,400
<i>first</i> line

2
00:00:00,450 --> 00:00:00,460
between the frames

3
00:00:00,600 --> 00:00:10,000
last line
"""


def videomme(root: Path, video: Path, layout: str = "parquet") -> Path:
    put(video, root / "data" / "yt1.mp4")
    (root / "subtitle").mkdir()
    (root / "subtitle" / "yt1.srt").write_text(SRT, encoding="utf-8")
    if layout == "parquet":
        (root / "videomme").mkdir()
        pl.DataFrame([ROW]).write_parquet(root / "videomme" / "test-00000-of-00001.parquet")
    elif layout == "questions":
        write_json(root / "questions.json", [ROW])
    else:
        for name in ("short", "medium", "long"):
            items = [{"video": "yt1.mp4", **QUESTION}] if name == "short" else []
            write_json(root / "json" / f"{name}.json", items)
    return root


def egoschema(root: Path, video: Path, layout: str = "questions") -> Path:
    """Two questions; the answer of the first is public."""
    names, options = ("uid-1", "uid-2"), [f"option {i}" for i in range(5)]
    put(video, *(root / "videos" / f"{name}.mp4" for name in names))
    if layout == "parquet":
        (root / "Subset").mkdir()
        row = {"question_idx": "1", "question": "why?", "video_idx": "uid-1", "option": options, "answer": "3"}
        pl.DataFrame([row]).write_parquet(root / "Subset" / "test-00000-of-00001.parquet")
        return root
    write_json(root / "subset_answers.json", {"uid-1": 3})
    if layout == "questions":
        texts = {f"option {i}": text for i, text in enumerate(options)}
        write_json(root / "questions.json", [{"q_uid": name, "question": "why?", **texts} for name in names])
    else:
        items = [{"video": f"{name}.mp4", "question": "why?", "candidates": options, "answer": None} for name in names]
        write_json(root / "json" / "egoschema_fullset.json", items)
    return root


def vcgbench(root: Path, video: Path) -> Path:
    put(video, root / "Videos" / "Benchmarking" / "v1.mp4", root / "Videos" / "Benchmarking" / "v2.mkv")
    folder = root / "Zero_Shot_QA" / "Benchmarking_QA"
    one = {"video_name": "v1", "Q": "what happens?", "A": "a block moves"}
    write_json(folder / "generic_qa.json", [one, {**one, "video_name": "v2"}])
    write_json(folder / "temporal_qa.json", [one])
    write_json(folder / "consistency_qa.json", [{"video_name": "v1", "Q1": "what is it?", "Q2": "which thing?", "A": "a block"}])
    return root


MOMENT = {
    "id": "yt1_0",
    "video_id": "yt1",
    "video_path": "yt1.mp4",
    "subtitle_path": "yt1_en.json",
    "question": "when a block stays, what happens?",
    "question_wo_referring_query": "what happens?",
    "candidates": ["it falls", "it stays", "it jumps"],
    "correct_choice": 1,
    "position": [3],
    "question_category": "T2E",
    "topic_category": "NP-News-Programs",
    "level": "L1-Perception",
    "duration_group": 15,
    "duration": 1.0,
    "starting_timestamp_for_subtitles": 60,
    "view_count": 7,
    "type": "local",
}
SPOKEN = [
    {"start": "00:00:02.000", "end": "00:00:03.000", "line": "before the cut"},
    {"start": "00:01:00.100", "end": "00:01:00.300", "line": "first  line"},
    {"start": "00:02:00.000", "end": "00:02:01.000", "line": "after the cut"},
]


def longvideobench(root: Path, video: Path) -> Path:
    """Two questions on a video of a second, cut from a film at its first minute."""
    put(video, root / "videos" / "yt1.mp4")
    other = {**MOMENT, "id": "yt1_1", "question_category": "S2A", "correct_choice": 2}
    write_json(root / "lvb_val.json", [MOMENT, other])
    write_json(root / "lvb_test_wo_gt.json", [{name: value for name, value in MOMENT.items() if name != "correct_choice"}])
    write_json(root / "subtitles" / "yt1_en.json", SPOKEN)
    return root


def mlvu(root: Path, video: Path) -> Path:
    """One question of each task, in the folder MLVU of a download; the last two have free answers."""
    names = ("plotQA", "needle", "ego", "count", "order", "anomaly_reco", "topic_reasoning", "sub_scene", "summary")
    for number, name in enumerate(names, 1):
        put(video, root / "MLVU" / "video" / f"{number}_{name}" / f"{name}_0.mp4")
        item = {"video": f"{name}_0.mp4", "duration": 1.0, **QUESTION, "question_type": name}
        write_json(root / "MLVU" / "json" / f"{number}_{name}.json", [item])
    return root


NEXTQA_HEADING = "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
NEXTQA_ROWS = (
    "4010069381,369,640,480,how does it move,0,6,CH,it rolls,it falls,it jumps,it flies,it stays",
    '4010069381,369,640,480,"what does it do before, at the start",2,7,TP,it rolls,it falls,it jumps,it flies,"it stays, still"',
    "2435100235,369,640,480,how many blocks are there,4,1,DC,one,two,three,four,five",
)


def nextqa(root: Path, video: Path, layout: str = "csv") -> Path:
    """Three questions on two videos: the authors' tables with videos in numbered folders, or the hub's with all in one."""
    places = {"4010069381": "1164/4010069381", "2435100235": "0017/2435100235"}
    text = "\n".join([NEXTQA_HEADING, *NEXTQA_ROWS])
    if layout == "csv":
        put(video, *(root / "NExTVideo" / f"{place}.mp4" for place in places.values()))
        write_json(root / "map_vid_vidorID.json", places)
        for split in ("val", "test"):
            (root / f"{split}.csv").write_text(text, encoding="utf-8")
    else:
        put(video, *(root / "NExTVideo" / f"{name}.mp4" for name in places))
        (root / "MC").mkdir()
        pl.read_csv(text.encode(), schema_overrides={"video": pl.String}).write_parquet(
            root / "MC" / "test-00000-of-00001.parquet"
        )
    return root


def tempcompass(root: Path, video: Path, layout: str = "json") -> Path:
    """All four parts, two videos: one and its reverse."""
    ways = "which way does it go?\nA. to the left\nB. to the right\nC. down"
    caption = "Which caption matches?\nCaption A: left.\nCaption B: right."
    questions = {
        "multi-choice": (ways, "B. to the right", "A. to the left"),
        "yes_no": ("does it go to the right?", "yes", "no"),
        "caption_matching": (caption, "Caption B: right.", "Caption A: left."),
    }
    put(video, root / "videos" / "1034.mp4", root / "videos" / "1034_reverse.mp4")
    for part, (question, *answers) in questions.items():
        videos = dict(zip(("1034", "1034_reverse"), answers, strict=True))
        asked = {name: {"direction": [{"question": question, "answer": answer}] * 2} for name, answer in videos.items()}
        asked["1034"]["speed"] = [{"question": question, "answer": answers[0]}]
        if layout == "json":
            write_json(root / "questions" / f"{part}.json", asked)
        else:
            rows = [
                {"video_id": name, "question": item["question"], "answer": item["answer"], "dim": aspect}
                for name, aspects in asked.items()
                for aspect, items in aspects.items()
                for item in items
            ]
            (root / part).mkdir(parents=True)
            pl.DataFrame(rows).write_parquet(root / part / "test-00000-of-00001.parquet")
    return root


tempcompass_yes_no = tempcompass
