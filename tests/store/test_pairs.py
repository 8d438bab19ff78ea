"""Images with texts on disk: what goes in comes out, whatever is killed, cut or damaged."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from db1.errors import DataError
from db1.store.pair_layout import PairFiles
from db1.store.pair_statistics import pair_statistics
from db1.store.pairs import Pair, PairHeader, PairStore, PairWriter, pair_splits

CAPTIONS = PairHeader(name="toy", split="train", kind="caption", origin={"version": 3})
QUESTIONS = replace(CAPTIONS, kind="question")


def png(seed: int, height: int = 8, width: int = 12) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def caption(number: int) -> Pair:
    texts = tuple(f"picture {number}, said {i} ways ☃" for i in range(1 + number % 3))
    return Pair(image_name=f"{number}.png", texts=texts, metadata={"id": number})


def question(number: int) -> Pair:
    answers = ("yes", "no", "")[: number % 3 + 1]
    return Pair(
        image_name=f"{number // 2}.png", question=f"is it {number}?", texts=answers, prompt="Look:"
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Five captions."""
    with PairWriter(tmp_path / "train", CAPTIONS) as writer:
        for number in range(5):
            writer.append(caption(number), png(number))
    return tmp_path / "train"


def test_what_goes_in_comes_out(store: Path) -> None:
    found = PairStore(store)
    assert (found.num_pairs, found.num_images, found.header) == (5, 5, CAPTIONS)
    for number in (3, 0, 4):
        assert found.pair(number) == caption(number)
        assert found.image_of(number) == png(number)
    assert found.image_sizes().tolist() == [[8, 12]] * 5
    assert found.num_texts().tolist() == [1, 2, 3, 1, 2]
    assert pair_splits(store.parent) == ["train"]


def test_questions_about_one_image_share_it(tmp_path: Path) -> None:
    with PairWriter(tmp_path, QUESTIONS) as writer:
        for number in range(6):
            writer.append(question(number), png(number // 2))
    found = PairStore(tmp_path)
    assert (found.num_pairs, found.num_images) == (6, 3)
    assert found.image_numbers().tolist() == [0, 0, 1, 1, 2, 2]
    assert found.image_bytes == sum(len(png(i)) for i in range(3))
    assert [found.pair(i) for i in range(6)] == [question(i) for i in range(6)]
    assert found.image_of(3) == found.image_of(2) == png(1)


def test_worked_example_of_the_layout(tmp_path: Path) -> None:
    with PairWriter(tmp_path, QUESTIONS) as writer:
        for image in (0, 0, 1):
            pair = Pair(image_name=str(image), question="what?", texts=("x",))
            writer.append(pair, png(image))
    files = PairFiles(tmp_path)
    records = files.read_pairs(0, 3)
    assert records["image"].tolist() == [0, 0, 1]
    assert records["num_images"].tolist() == [1, 1, 2]
    lines = files.lines.path.read_bytes().splitlines(keepends=True)
    assert records["line_end"].tolist() == np.cumsum([len(line) for line in lines]).tolist()
    assert files.read_images(0, 2)["end"].tolist() == np.cumsum([len(png(0)), len(png(1))]).tolist()


def test_a_writer_goes_on_and_knows_the_images(tmp_path: Path) -> None:
    for first, last in ((0, 3), (3, 6)):
        with PairWriter(tmp_path, QUESTIONS) as writer:
            assert writer.num_pairs == first
            assert writer.has_image("1.png") == (first > 0)
            for number in range(first, last):
                writer.append(question(number), png(number // 2))
    assert PairStore(tmp_path).image_numbers().tolist() == [0, 0, 1, 1, 2, 2]


def test_a_reader_sees_what_was_complete_when_it_opened(store: Path) -> None:
    found = PairStore(store)
    with PairWriter(store, CAPTIONS) as writer:
        writer.append(caption(5), png(5))
    assert found.num_pairs == 5
    copy = pickle.loads(pickle.dumps(found))
    assert copy.num_pairs == 5 and copy.pair(4) == caption(4)
    assert len(pickle.dumps(found)) < 500
    assert PairStore(store).num_pairs == 6


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["images.data", "images.bin", "pairs.jsonl", "pairs.bin"])
def test_any_cut_of_the_last_pair_leaves_the_others(store: Path, name: str) -> None:
    whole = _files(store)
    with PairWriter(store, CAPTIONS) as writer:
        writer.append(caption(5), png(5))
    added = _files(store)
    for size in np.linspace(len(whole[name]), len(added[name]) - 1, 9).astype(int):
        for file, content in added.items():
            (store / file).write_bytes(content)
        with open(store / name, "r+b") as file:
            file.truncate(int(size))
        assert PairStore(store).num_pairs == 5
        with PairWriter(store, CAPTIONS) as writer:
            assert writer.num_pairs == 5
        assert _files(store) == whole


def test_a_killed_writer_leaves_complete_pairs(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from test_pairs import CAPTIONS, PairWriter, caption, png\n"
        "writer, number = PairWriter(sys.argv[1], CAPTIONS), 0\n"
        "while True:\n"
        "    writer.append(caption(number), png(number)); number += 1\n"
        "    print(number, flush=True)\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "s"), str(Path(__file__).parent)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if int(line) >= 30:
                process.send_signal(signal.SIGKILL)
                break
        reported = int(line)
    found = PairStore(tmp_path / "s")
    assert found.num_pairs >= reported
    found.verify(decode=True)
    with PairWriter(tmp_path / "s", CAPTIONS) as writer:
        number = writer.num_pairs
        writer.append(caption(number), png(number))
    assert PairStore(tmp_path / "s").pair(number) == caption(number)


def test_a_failed_write_is_taken_back(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _files(store)
    writer = PairWriter(store, CAPTIONS)
    real = writer._files.write

    def full_disk(path: Path, content: bytes) -> None:
        if path.name == "pairs.jsonl":
            real(path, content[:3])
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(writer._files, "write", full_disk)
    with pytest.raises(DataError, match="cannot write pair 5.*the 5 pairs before it are complete"):
        writer.append(caption(5), png(5))
    assert _files(store) == before
    monkeypatch.undo()
    writer.append(caption(5), png(5))
    writer.close()
    PairStore(store).verify()


def test_two_writers_do_not_mix(store: Path) -> None:
    with PairWriter(store, CAPTIONS):
        with pytest.raises(DataError, match="another writer holds this store"):
            PairWriter(store, CAPTIONS)


@pytest.mark.parametrize("name", ["images.data", "pairs.jsonl"])
def test_a_flipped_bit_is_found(store: Path, name: str) -> None:
    content = bytearray((store / name).read_bytes())
    content[len(content) // 2] ^= 4
    (store / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}.*wrong checksum"):
        PairStore(store).verify()


@pytest.mark.parametrize("name", ["images.bin", "pairs.bin"])
def test_a_damaged_record_is_found_and_the_pairs_before_it_can_be_kept(
    store: Path, name: str
) -> None:
    content = bytearray((store / name).read_bytes())
    content[2 * len(content) // 5 + 3] ^= 1
    (store / name).write_bytes(content)
    with pytest.raises(DataError, match="the first 2 of 5 pairs are complete"):
        PairStore(store)
    with PairWriter(store, CAPTIONS, repair=True) as writer:
        assert writer.num_pairs == 2
    assert PairStore(store).verify().num_pairs == 2


def test_verify_counts_and_reports_progress(store: Path) -> None:
    steps: list[tuple[int, int]] = []
    counts = PairStore(store).verify(lambda done, total: steps.append((done, total)), decode=True)
    assert (counts.num_pairs, counts.num_images) == (5, 5)
    assert counts.num_bytes == sum(len(c) for n, c in _files(store).items() if n != "header.json")
    assert steps == [(i, 10) for i in range(1, 11)]


def test_statistics(tmp_path: Path) -> None:
    with PairWriter(tmp_path, QUESTIONS) as writer:
        for number in range(6):
            writer.append(question(number), png(number // 2))
        writer.append(Pair(image_name="9.png", question="secret?"), png(9, 16, 4))
    found = pair_statistics(PairStore(tmp_path))
    assert (found.num_pairs, found.num_images, found.num_without_text) == (7, 4, 1)
    assert found.heights is not None and found.widths is not None
    assert (found.heights.minimum, found.heights.maximum, found.widths.minimum) == (8, 16, 4)
    assert found.common_texts[:2] == (("yes", 6), ("no", 4))
    assert found.question_characters is not None and found.question_characters.maximum == 8
    assert found.to_dict()["texts_per_pair"]["maximum"] == 2


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (Pair(image_name="a"), "image a has no caption"),
        (Pair(image_name="a", texts=("x",), question="y"), "a question 'y' in a set of captions"),
        (Pair(image_name="a", texts=(" ",)), "text 0: empty"),
        (Pair(image_name="a", texts=("\ud800",)), "text 0: character 0 is a lone surrogate"),
        (Pair(image_name="", texts=("x",)), "the image has no name"),
        (Pair(image_name="a", texts=("x",), metadata={"y": {1}}), "not JSON-able"),
        (Pair(image_name="a", texts=(3,)), "text 0: got int"),  # type: ignore[arg-type]
    ],
)
def test_bad_pairs_are_refused_and_leave_nothing(store: Path, pair: Pair, message: str) -> None:
    before = _files(store)
    with PairWriter(store, CAPTIONS) as writer:
        with pytest.raises(DataError, match=f"toy/train pair 5: .*{message}|pair 5.*{message}"):
            writer.append(pair, png(7))
    assert _files(store) == before


def test_bad_images_are_refused(store: Path) -> None:
    with PairWriter(store, CAPTIONS) as writer:
        with pytest.raises(DataError, match=r"pair 5, image 5.png.*not one of the image formats"):
            writer.append(caption(5), b"<html>")
        with pytest.raises(DataError, match="writer is closed"):
            writer.close()
            writer.append(caption(5), png(5))


def test_foreign_folders_are_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(DataError, match="no store of images with texts.*the splits train lie"):
        PairStore(store.parent)
    with pytest.raises(DataError, match="another header .*origin"):
        PairWriter(store, replace(CAPTIONS, origin={"version": 4}))
    with pytest.raises(DataError, match="kind: got 'captions'.*did you mean 'caption'"):
        replace(CAPTIONS, kind="captions")
    header = store / "header.json"
    header.write_text(header.read_text().replace('"version": 1', '"version": 99'))
    with pytest.raises(DataError, match="version 99, this db1 reads 1..1"):
        PairStore(store)
    os.remove(header)
    with pytest.raises(DataError, match="exists without a header"):
        PairWriter(store, CAPTIONS)


def test_numbers_outside_are_refused(store: Path) -> None:
    found = PairStore(store)
    for number in (-1, 5):
        with pytest.raises(DataError, match=f"pair {number}, expected 0..4"):
            found.pair(number)
        with pytest.raises(DataError, match=f"image {number}, expected 0..4"):
            found.image(number)


@pytest.mark.parametrize("kept", [0, 2])
def test_records_that_lost_their_end_are_found(store: Path, kept: int) -> None:
    records = store / "pairs.bin"
    size = records.stat().st_size // 5
    records.write_bytes(records.read_bytes()[: kept * size])
    with pytest.raises(DataError, match=rf"pairs.bin: {kept} pairs, and at least {5 - kept} lines"):
        PairStore(store)
    with pytest.raises(DataError, match="lost its end"):
        PairWriter(store, CAPTIONS)
    with PairWriter(store, CAPTIONS, repair=True) as writer:
        assert writer.num_pairs == kept
