"""A process starts where it finds no place to write what it could do without."""

from __future__ import annotations

from tests.support.factories import ADA
from tests.support.mounts import with_mount
from tests.support.serving import Service, is_serving
from tests.support.waiting import eventually

# Python reads it at its start; no folder is then one for temporary files.
NO_PLACE = "import tempfile\n\ntempfile._candidate_tempdir_list = list\n"
READ_ONLY = "mount -t tmpfs -o ro tmpfs /dev/shm"


def test_without_temporary_files_each_worker_counts_alone(serve, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NO_PLACE)

    service = serve(PYTHONPATH=str(tmp_path))

    assert service.client.post("/users", json=ADA).status_code == 201
    assert service.total("users_created_total") == 1
    message = "No room for shared counts: /metrics shows one worker's at a time"
    assert len(service.logged(message)) == 1


def test_without_shared_memory_heartbeats_are_elsewhere(tmp_path, sqlite_url):
    variables = {"DATABASE_URL": sqlite_url}
    service = Service(tmp_path, variables, before=with_mount(READ_ONLY))
    try:
        eventually(lambda: is_serving(service))
        assert service.client.get("/health").status_code == 200
    finally:
        service.close()
