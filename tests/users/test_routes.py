from __future__ import annotations

from tests.factories import ADA


def test_an_address_can_be_registered_once_whatever_its_case(client):
    client.post("/users", json=ADA)

    response = client.post("/users", json=ADA | {"email": "ADA@example.com"})

    assert response.status_code == 409
    assert response.content_type == "application/problem+json"
    assert response.json["code"] == "email_taken"
    assert response.json["error"] == "User already exists"


def test_the_location_of_a_new_user_returns_the_same_bytes(service_client):
    created = service_client.post("/users", json=ADA)

    read = service_client.get(created.headers["Location"])

    assert read.data == created.data
    assert read.headers["ETag"] == created.headers["ETag"]
    assert read.headers["Last-Modified"] == created.headers["Last-Modified"]
