"""The pictures: the one of the architecture is as its source draws it, the recording is as its screens say."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree

from tests.site import picture, recording
from tests.site.contents import DOCS


def test_the_architecture_is_as_its_source_draws_it():
    drawn = picture.draw()
    ElementTree.fromstring(drawn)
    assert "prefers-color-scheme:dark" in drawn
    assert (DOCS / "architecture.svg").read_text() == drawn, "python -m tests.site.picture docs/architecture.svg"


def test_the_recording_shows_a_kill_and_the_check():
    text = (DOCS / "demo.svg").read_text()
    ElementTree.fromstring(text)
    for part in ("kill -9", "starting a successor", "reported exactly once"):
        assert part in text, "python -m tests.site.recording docs/demo.svg"


def test_screens_of_a_terminal_become_frames_in_order():
    script = "import time\nprint('one', flush=True)\ntime.sleep(0.4)\nprint('\\x1b[32mtwo <\\x1b[0m', flush=True)"
    frames = recording.record([sys.executable, "-c", script])
    assert [[run[3].strip() for line in screen for run in line] for _, screen in frames] == [["one"], ["one", "two <"]]
    drawn = recording.draw(frames, "two lines")
    assert 'class="green"' in drawn
    assert "two &lt;" in drawn
    ElementTree.fromstring(drawn)
