"""moto's server, with the protocol in front of it that the Rust SDK speaks to CloudWatch.

aws-sdk-cloudwatch for Rust knows Smithy RPC v2 CBOR alone, moto answers AWS JSON alone. This WSGI application takes a
CBOR call, hands it to moto as a JSON call, and gives the answer back as CBOR; every other request passes untouched.
Times are told apart by the shapes of botocore's service model. Usage: moto_cbor.py PORT; prints one line when it
listens.
"""

import datetime
import gzip
import io
import json
import sys

import botocore.session
import cbor2
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

OPERATION_PATH = "/service/GraniteServiceVersion20100801/operation/"
TARGET_PREFIX = "GraniteServiceVersion20100801."
ERROR_NAMESPACE = "com.amazonaws.cloudwatch#"


def to_json(value):
    """CBOR's tagged times as seconds since the epoch, which is how AWS JSON writes them."""
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return value


def to_cbor(shape, value):
    """A JSON answer with the types that its shape asks for; members that the shape does not have are left out."""
    if value is None or shape is None:
        return value
    kind = shape.type_name
    if kind == "structure":
        known = ((name, item) for name, item in value.items() if name in shape.members and item is not None)
        return {name: to_cbor(shape.members[name], item) for name, item in known}
    if kind == "list":
        return [to_cbor(shape.member, item) for item in value]
    if kind == "map":
        return {key: to_cbor(shape.value, item) for key, item in value.items()}
    if kind == "timestamp":
        return to_time(value)
    if kind in ("float", "double"):
        return float(value)
    return value


def to_time(value):
    if isinstance(value, (int, float)):
        return datetime.datetime.fromtimestamp(value, datetime.timezone.utc)
    return datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))


class CborFront:
    """Between the SDK and moto."""

    def __init__(self, moto):
        self.moto = moto
        self.model = botocore.session.get_session().get_service_model("cloudwatch")

    def __call__(self, environ, start_response):
        path = environ.get("PATH_INFO", "")
        if not path.startswith(OPERATION_PATH):
            return self.moto(environ, start_response)
        operation = path[len(OPERATION_PATH):]
        status, headers, answer = self.ask_moto(as_json_call(environ, operation))
        if status.startswith("2"):
            shape = self.model.operation_model(operation).output_shape
            body = to_cbor(shape, answer) or {}
        else:
            body, code = as_cbor_error(answer)
            headers.append(("x-amzn-query-error", f"{code};Sender"))
        encoded = cbor2.dumps(body, datetime_as_timestamp=True)
        headers += [
            ("Content-Type", "application/cbor"),
            ("Content-Length", str(len(encoded))),
            ("smithy-protocol", "rpc-v2-cbor"),
        ]
        start_response(status, headers)
        return [encoded]

    def ask_moto(self, environ):
        """Status, the headers worth keeping, and the answer as a value."""
        seen = {}

        def remember(status, headers, _exc_info=None):
            seen["status"], seen["headers"] = status, headers

        raw = b"".join(self.moto(environ, remember))
        kept = [(name, value) for name, value in seen["headers"] if name.lower() == "x-amzn-requestid"]
        try:
            return seen["status"], kept, json.loads(raw) if raw else {}
        except ValueError:
            # moto answers what it does not implement with a page of HTML.
            text = raw[:200].decode("utf-8", "replace")
            return "501 Not Implemented", kept, {"__type": "InternalFailure", "message": text}


def as_json_call(environ, operation):
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ = {key: value for key, value in environ.items() if not key.startswith("werkzeug.")}
    if environ.pop("HTTP_CONTENT_ENCODING", "") == "gzip":
        body = gzip.decompress(body)
    environ.pop("HTTP_SMITHY_PROTOCOL", None)
    call = json.dumps(to_json(cbor2.loads(body)) if body else {}).encode()
    environ.update({
        "PATH_INFO": "/",
        "RAW_URI": "/",
        "REQUEST_URI": "/",
        "CONTENT_TYPE": "application/x-amz-json-1.0",
        "CONTENT_LENGTH": str(len(call)),
        "HTTP_X_AMZ_TARGET": TARGET_PREFIX + operation,
        "wsgi.input": io.BytesIO(call),
    })
    return environ


def as_cbor_error(answer):
    """The error with its namespace, and the code of the older query API, which moto puts in the same place."""
    code = str(answer.get("__type", "InternalFailure")).split("#")[-1]
    message = answer.get("message") or answer.get("Message") or ""
    return {"__type": ERROR_NAMESPACE + code, "message": message}, code


def main():
    moto = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", int(sys.argv[1]), CborFront(moto), threaded=True)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
