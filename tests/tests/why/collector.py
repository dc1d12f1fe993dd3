# A collector of traces: takes a request only if OTLP's own library does, and prints each span as JSON.
import base64, json, re, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

busy = True


def read(text):
    request = json.loads(text)
    for resource in request["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            names = {span["spanId"] for span in scope["spans"]}
            assert len(names) == len(scope["spans"]), "two spans have one name"
            for span in scope["spans"]:
                assert span.get("parentSpanId", span["spanId"]) in names, "a parent is not there"
                assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"]), "it ends before it begins"
                # OTLP writes these in hexadecimal digits; Protocol Buffers' JSON has bytes in base64.
                for key, digits in (("traceId", 32), ("spanId", 16), ("parentSpanId", 16)):
                    if key in span:
                        assert re.fullmatch("[0-9a-f]{%d}" % digits, span[key]), key
                        span[key] = base64.b64encode(bytes.fromhex(span[key])).decode()
    # Whatever it does not know is an error.
    return json_format.ParseDict(request, ExportTraceServiceRequest())


class Collector(BaseHTTPRequestHandler):
    def do_POST(self):
        global busy
        text = self.rfile.read(int(self.headers["content-length"]))
        if busy:
            busy = False
            return self.answer(503)
        try:
            assert self.path == "/v1/traces" and self.headers["content-type"] == "application/json", self.path
            message = read(text)
        except Exception as error:
            print("WRONG", repr(error), text.decode(), flush=True)
            return self.answer(400)
        for resource in message.resource_spans:
            for span in resource.scope_spans[0].spans:
                shown = json_format.MessageToDict(span)
                shown["attributes"] = {item["key"]: list(item["value"].values())[0] for item in shown.get("attributes", [])}
                print("SPAN", json.dumps(shown), flush=True)
        self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


ThreadingHTTPServer((sys.argv[1], 4318), Collector).serve_forever()
