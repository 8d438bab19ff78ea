"""An episode that is watched is the evaluated one, whatever shows it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from db1.cli.terminal import Terminal, draw_scene
from db1.errors import ConfigError, DataError
from db1.evaluation.evaluate import evaluate
from db1.evaluation.execution import TaskSelection
from db1.evaluation.settings import EvaluationConfig
from db1.rollout.episode import StopWatching
from db1.viewer.displays import FilmDisplay, Lines, Window
from db1.viewer.episode import play
from db1.viewer.panel import HEIGHT, WIDTH, draw_panel
from db1.viewer.scene import Choice, Scene, Seen

CARTPOLE = "classic_control/CartPole-v1"


class Keeper:
    """A display that keeps its scenes."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.scenes: list[Scene] = []
        self._stop_after = stop_after

    def show(self, scene: Scene) -> None:
        self.scenes.append(scene)
        if self._stop_after == scene.step:
            raise StopWatching

    def close(self) -> None: ...


def scenes(run: Path, **options) -> list[Scene]:
    keeper = Keeper()
    play(run, CARTPOLE, EvaluationConfig(episodes=1, **options), keeper)
    return keeper.scenes


@pytest.fixture(scope="module")
def episode(run_folder: Path) -> list[Scene]:
    return scenes(run_folder)


@pytest.mark.parametrize("policy", ["model", "random"])
def test_it_is_the_evaluated_episode(run_folder: Path, tmp_path: Path, policy: str) -> None:
    config = EvaluationConfig(episodes=2, text=False, policy=policy)
    results = evaluate(run_folder, config, out=tmp_path, selection=TaskSelection(tasks=[CARTPOLE]))
    entry = results["tasks"][CARTPOLE]
    for number in range(2):
        shown = scenes(run_folder, policy=policy, first_episode=number)
        assert shown[-1].total_reward == entry["returns"][number]
        assert shown[-1].step == entry["lengths"][number] == len(shown) - 1


def test_scenes_tell_what_is_seen_and_done(episode: list[Scene]) -> None:
    for scene in episode[:-1]:
        (seen,) = scene.seen
        assert (seen.key, seen.kind, seen.num_tokens) == ("state", "continuous", 4)
        (choice,) = scene.choices
        assert choice.likely[0][0] == choice.chosen and scene.end is None
        assert sum(share for _, share in choice.likely) == pytest.approx(1)
        assert {words for words, _ in choice.likely} == {"0 left", "1 right"}
        assert scene.frame.dtype == np.uint8 and scene.frame.ndim == 3
    assert episode[-1].choices == () and "over after" in str(episode[-1].end)
    assert [scene.step for scene in episode] == list(range(len(episode)))


def test_lines(episode: list[Scene]) -> None:
    lines: list[str] = []
    display = Lines(lines.append)
    for scene in episode:
        display.show(scene)
    assert lines[0].startswith(f"{CARTPOLE}   model   seed 2000000")
    assert lines[1].startswith("step 0  return 0  reward 0  ") and "%" in lines[1]
    assert lines[-1] == episode[-1].end and len(lines) == len(episode) + 1


@pytest.mark.parametrize("ending", ["webp", "gif", "mp4"])
def test_films(episode: list[Scene], tmp_path: Path, ending: str) -> None:
    if ending == "mp4":
        pytest.importorskip("imageio_ffmpeg", reason='needs pip install "db1[video]"')
    path = tmp_path / f"film.{ending}"
    display = FilmDisplay(path, 10.0)
    for scene in [*episode[:5], episode[-1]]:
        display.show(scene)
    assert not path.exists()
    display.close()
    if ending == "mp4":
        import imageio_ffmpeg

        count, _ = imageio_ffmpeg.count_frames_and_secs(str(path))
        assert count == 6 + 10  # the end stays a second
    else:
        with Image.open(path) as film:
            assert film.size == (WIDTH, HEIGHT) and film.n_frames == 6
    assert list(tmp_path.iterdir()) == [path]


def test_a_film_given_up_leaves_nothing(episode: list[Scene], tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg", reason='needs pip install "db1[video]"')
    display = FilmDisplay(tmp_path / "film.mp4", 10.0)
    display.show(episode[0])
    display.give_up()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"\.mp4"):
        FilmDisplay(tmp_path / "film.avi", 10.0)


def test_terminal(episode: list[Scene]) -> None:
    written = io.StringIO()
    console = Console(
        file=written, force_terminal=True, width=120, height=40, color_system="truecolor"
    )
    display = Terminal(console, 1000.0)
    for scene in [*episode[:3], episode[-1]]:
        display.show(scene)
    display.close()
    text = written.getvalue()
    for part in ("▀", "what it sees", "state (4)", "what it may do", "0 left", "over after", "%"):
        assert part in text, part


@pytest.mark.parametrize(("width", "height"), [(60, 20), (80, 24), (200, 60)])
def test_terminal_of_any_size(width: int, height: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height)
    console.print(draw_scene(_rich_scene(), width, height))
    plain = Console(file=io.StringIO(), width=width)
    plain.print(draw_scene(_rich_scene(), width, height))
    lines = plain.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width


def _rich_scene() -> Scene:
    """All kinds of fields, and an action of ten numbers."""
    rng = np.random.default_rng(0)
    columns = rng.random(41)
    likely = (("+0.100", 0.6), ("-0.900", 0.4))
    return Scene(
        title="a/b   model   seed 1",
        frame=rng.integers(0, 256, (210, 160, 3), dtype=np.uint8),
        seen=(
            Seen(key="mission", kind="text", value="go to the red ball " * 4),
            Seen(key="pixels", kind="image", value=rng.integers(0, 256, (64, 80, 1), np.uint8)),
            Seen(key="state", kind="continuous", value=rng.normal(size=200), num_tokens=200),
            Seen(key="mode", kind="discrete", value=np.int32(3), num_tokens=1),
        ),
        choices=tuple(
            Choice(
                name=f"action {i} of 10", chosen="+0.100", chosen_value=0.1,
                likely=likely, columns=columns,
            )
            for i in range(10)
        ),
        step=7,
        reward=-0.5,
        total_reward=12.25,
        end=None,
    )  # fmt: skip


def test_panels_have_room_for_everything(episode: list[Scene]) -> None:
    for scene in (_rich_scene(), episode[0], episode[-1]):
        panel = np.asarray(draw_panel(scene))
        assert panel.shape == (HEIGHT, WIDTH, 3)
        assert panel[60:-20, 20:430].std() > 1 and panel[60:-20, 460:].std() > 1


def test_window(episode: list[Scene], monkeypatch: pytest.MonkeyPatch) -> None:
    pygame = pytest.importorskip("pygame", reason='needs pip install "db1[window]"')
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.quit()
    window = Window("toy", 1000.0)
    try:
        window.show(episode[0])
        screen = pygame.surfarray.array3d(pygame.display.get_surface()).transpose(1, 0, 2)
        assert np.abs(screen.astype(int) - np.asarray(draw_panel(episode[0]))).mean() < 2

        def press(key: int) -> None:
            pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=key, unicode=""))

        press(pygame.K_SPACE)  # paused: only a step or the end goes on
        press(pygame.K_RIGHT)
        window.show(episode[1])
        press(pygame.K_q)
        with pytest.raises(StopWatching):
            window.show(episode[2])
    finally:
        window.close()


def test_who_stops_looking_ends_the_episode(run_folder: Path) -> None:
    keeper = Keeper(stop_after=2)
    last = play(run_folder, CARTPOLE, EvaluationConfig(episodes=1), keeper)
    assert last is not None and last.step == 2 and len(keeper.scenes) == 3
    last = play(run_folder, CARTPOLE, EvaluationConfig(episodes=1), Keeper(), max_steps=4)
    assert last is not None and last.step == 4


def test_no_demonstrations(run_folder: Path) -> None:
    task = "classic_control/Pendulum-v1"
    with pytest.raises(DataError, match="no-prompt"):
        play(run_folder, task, EvaluationConfig(episodes=1), Keeper())
    config = EvaluationConfig(episodes=1, prompt=False)
    last = play(run_folder, task, config, Keeper(), max_steps=2)
    assert last is not None and last.choices[0].columns is not None
    assert last.choices[0].columns.sum() == pytest.approx(1, abs=1e-4)
