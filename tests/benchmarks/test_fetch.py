"""Fetching files, from a server on this machine that misbehaves as servers do."""

import errno
import hashlib
import io
import os
import shutil
import tarfile
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ednag.benchmarks import addresses, fetch
from ednag.benchmarks.addresses import ADDRESSES, RemoteFile
from ednag.benchmarks.catalogue import CATALOGUE
from ednag.benchmarks.fetch import CHUNK, download
from ednag.benchmarks.locate import entry, presence
from ednag.cli.main import main

CONTENT = bytes(range(256)) * 4096  # 1 MiB
ARRIVED = 300_000 // CHUNK * CHUNK
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"  # noqa: S324


class Handler(BaseHTTPRequestHandler):
    """Serves ``content``; the first part of the path says how."""

    content = CONTENT
    seen: "list[tuple[str, str | None]]"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        how = self.path.split("/")[1]
        asked = self.headers.get("Range")
        self.seen.append((how, asked))
        if how == "absent":
            self.send_error(404)
            return
        if how == "moved":
            self.send_response(302)
            self.send_header("Location", "/right/x.bin")
            self.end_headers()
            return
        if how == "silent":
            time.sleep(1.5)
            return
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and how != "whole" else 0
        if begin >= len(self.content):
            self.send_error(416)
            return
        body = self.content[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if how in ("cut", "once", "whole") and (how == "cut" or len(self.seen) == 1):
            self.wfile.write(body[:300_000])
            self.wfile.flush()
            self.connection.close()
        elif how == "slow":
            for start in range(0, len(body), 200_000):
                self.wfile.write(body[start : start + 200_000])
                self.wfile.flush()
                time.sleep(0.15)
        else:
            self.wfile.write(body)


@pytest.fixture
def server() -> "Iterator[tuple[str, type[Handler]]]":
    class Mine(Handler):
        seen: "list[tuple[str, str | None]]" = []  # noqa: RUF012

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Mine)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", Mine
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> "dict[str, tuple[RemoteFile, ...]]":
    """The addresses, which the test may change; ``pets`` is the entry that it fetches."""
    mine = dict(ADDRESSES)
    monkeypatch.setattr(fetch, "ADDRESSES", mine)
    return mine


def one(known: dict, *urls: str, digest: "str | None" = MD5) -> None:
    known["pets"] = (RemoteFile("x.bin", urls, digest),)


def parts(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_fetched_once(server, known, tmp_path):
    base, handler = server
    one(known, f"{base}/right/x.bin")
    assert download("pets", tmp_path) == [tmp_path / "x.bin"]
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert download("pets", tmp_path) == [tmp_path / "x.bin"]
    assert handler.seen == [("right", None)]
    assert parts(tmp_path) == ["x.bin"]


@pytest.mark.parametrize("how", ["moved", "slow"])
def test_redirections_are_followed_and_slow_servers_waited_for(server, known, tmp_path, how):
    one(known, f"{server[0]}/{how}/x.bin")
    assert download("pets", tmp_path, timeout=0.5)[0].read_bytes() == CONTENT


@pytest.mark.parametrize("how", ["once", "whole"])
def test_a_broken_connection_goes_on_where_it_was_cut_off(server, known, tmp_path, how):
    base, handler = server
    one(known, f"{base}/{how}/x.bin")
    assert download("pets", tmp_path)[0].read_bytes() == CONTENT
    (first, nothing), (_, second) = handler.seen
    assert (first, nothing) == (how, None)
    assert second == f"bytes={ARRIVED}-"  # a server that can't go on sends all of it again


def test_a_later_call_goes_on(server, known, tmp_path):
    base, handler = server
    one(known, f"{base}/cut/x.bin")
    with pytest.raises(
        OSError, match=r"can't fetch x\.bin: .*the connection broke.*is kept, and the same command goes on"
    ):
        download("pets", tmp_path)
    assert parts(tmp_path) == [".x.bin.part"]
    assert (tmp_path / ".x.bin.part").read_bytes() == CONTENT[: 3 * ARRIVED]
    one(known, f"{base}/right/x.bin")
    assert download("pets", tmp_path)[0].read_bytes() == CONTENT
    assert handler.seen[-1] == ("right", f"bytes={3 * ARRIVED}-")
    assert parts(tmp_path) == ["x.bin"]


def test_a_wrong_digest_leaves_nothing(server, known, tmp_path):
    base, _ = server
    one(known, f"{base}/right/x.bin", digest=f"md5:{'0' * 32}")
    with pytest.raises(ValueError, match=r"x\.bin is not the file it should be: its digest is not md5:000") as caught:
        download("pets", tmp_path)
    assert "\n" not in str(caught.value)
    assert parts(tmp_path) == []
    # remains of another file are found out as well
    (tmp_path / ".x.bin.part").write_bytes(b"?" * 100)
    one(known, f"{base}/right/x.bin")
    with pytest.raises(ValueError, match="not the file it should be"):
        download("pets", tmp_path)
    assert download("pets", tmp_path)[0].read_bytes() == CONTENT


def test_mirrors_are_tried_in_order_and_all_reasons_told(server, known, tmp_path):
    base, handler = server
    one(known, f"{base}/absent/x.bin", f"{base}/right/x.bin")
    assert download("pets", tmp_path / "a")[0].read_bytes() == CONTENT
    assert [how for how, _ in handler.seen] == ["absent", "right"]
    one(known, f"{base}/absent/x.bin", f"{base}/silent/x.bin", "http://127.0.0.1:9/x.bin")
    with pytest.raises(OSError, match=r"absent/x\.bin: 404 .*silent/x\.bin: no answer in time; .*:9/x\.bin: the conn"):
        download("pets", tmp_path / "b", timeout=0.2)


def test_the_users_own_mirror(server, known, tmp_path, monkeypatch, capsys):
    base, handler = server
    monkeypatch.chdir(tmp_path)
    one(known, "http://127.0.0.1:9/x.bin")
    assert main(["data", "download", "pets", "--from", f"{base}/right/folder/"]) == 0
    assert "here: data/downloads/pets/x.bin" in capsys.readouterr().out
    assert handler.seen == [("right", None)]
    assert main(["data", "download", "nasbench201"]) == 2
    assert "no direct address: get it by hand from https://github.com/D-X-Y/NATS-Bench" in capsys.readouterr().err
    assert main(["data", "download", "nothing"]) == 2
    assert "no data called 'nothing'" in capsys.readouterr().err


def test_a_full_disk_is_said_in_one_sentence(server, known, tmp_path, monkeypatch):
    base, _ = server
    one(known, f"{base}/right/x.bin")
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 5, 5))
        with pytest.raises(
            OSError, match=r"no room for x\.bin on the disk .*1,048,576 more bytes, 5 are free.*goes on"
        ):
            download("pets", tmp_path)
    assert parts(tmp_path) == []
    if Path("/dev/full").exists():  # it fills up amid the content
        (tmp_path / ".x.bin.part").symlink_to("/dev/full")
        with pytest.raises(OSError, match=r"no room for x\.bin on the disk") as caught:
            download("pets", tmp_path)
        assert os.strerror(errno.ENOSPC) in str(caught.value)


def archive(members: "dict[str, bytes]") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_archives_are_unpacked_whole_or_not_at_all(server, known, tmp_path):
    base, handler = server
    handler.content = archive({"images/a.jpg": b"a", "images/b.jpg": os.urandom(5000)})
    known["pets"] = (RemoteFile("x.tar.gz", (f"{base}/right/x.tar.gz",), None, True),)
    for _ in range(2):
        assert download("pets", tmp_path) == [tmp_path / "x.tar.gz"]
        assert parts(tmp_path) == ["images", "x.tar.gz"]
        assert parts(tmp_path / "images") == ["a.jpg", "b.jpg"]
    for number, content in enumerate((handler.content[:3000], b"no archive", archive({"../outside": b"x"}))):
        handler.content = content
        with pytest.raises(ValueError, match=r"x\.tar\.gz can't be unpacked .*delete it and try again"):
            download("pets", tmp_path / str(number))
        assert parts(tmp_path / str(number)) == ["x.tar.gz"]
    assert not (tmp_path / "outside").exists()


def test_every_address_has_an_entry_and_its_digest_is_the_catalogues():
    names = {source.name for source in CATALOGUE}
    assert set(addresses.ADDRESSES) <= names
    assert {"cifar10", "cifar100", "fashion_mnist", "aircraft", "pets", "ofa_weights", "metad2a", "resnet18"} == set(
        addresses.ADDRESSES
    )
    for name, files in addresses.ADDRESSES.items():
        for file in files:
            assert all(url.startswith(("https://", "http://")) and file.name in url for url in file.urls)
            if file.digest and "labels" not in file.name:
                assert file.digest.split(":")[1] in entry(name).checksum


def test_what_was_fetched_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDNAG_DATA", raising=False)
    folder = tmp_path / "data/downloads/metad2a"
    folder.mkdir(parents=True)
    (folder / "meta_train_tasks_predictor.pt").write_bytes(b"x")
    assert presence("metad2a").state == "to import"
    (folder / "rows.npz").write_bytes(b"x")
    assert presence("metad2a").state == "present"
