"""What the `wire` benchmark times, in the subset that both Pythons run: _wire_timed.py FIRMWARE ANSWERS ROUNDS

ANSWERS is a file of length-prefixed pieces: what a server sends to the n-th request of one connection.
Prints a line a figure and round: "NAME ours|against MICROSECONDS", both measured in turn.
"""

import gc
import struct
import sys
import time

sys.path.insert(0, sys.argv[1])

from wayhomed.port.crypto import aead_open, aead_seal
from wayhomed.wire.derp import RECV_PACKET, DerpDecoder, encode_frame
from wayhomed.wire.http2 import Http2Client
from wayhomed.wire.noise import Session

# Few at a time, and that often again: on MicroPython a large heap would be measured instead.
REPEATS = 20
RECORDS = 50
RECORD_BYTES = 1000
FRAMES = 50
FRAME_BYTES = 1332  # a full packet behind its sender's key
CHUNK_BYTES = 16384
KEY_A = bytes([1]) * 32
KEY_B = bytes([2]) * 32

now_ns = getattr(time, "perf_counter_ns", None) or time.time_ns


def noise_records() -> list[bytes]:
    session = Session(KEY_A, KEY_B, b"")
    return [session.seal(bytes(RECORD_BYTES)) for _ in range(RECORDS)]


def seal_ours() -> int:
    session = Session(KEY_A, KEY_B, b"")
    data = bytes(RECORD_BYTES)
    for _ in range(RECORDS):
        session.seal(data)
    return RECORDS


def seal_against() -> int:
    data = bytes(RECORD_BYTES)
    nonce = bytes(12)
    for _ in range(RECORDS):
        aead_seal(KEY_A, nonce, data, b"")
    return RECORDS


def open_ours(records: list[bytes]) -> int:
    session = Session(KEY_B, KEY_A, b"")
    for record in records:
        session.feed(record)
    return len(records)


def open_against(records: list[bytes], nonces: list[bytes]) -> int:
    for i in range(len(records)):
        aead_open(KEY_A, nonces[i], records[i][3:], b"")
    return len(records)


def derp_ours(chunks: list[bytes]) -> int:
    decoder = DerpDecoder()
    frames = 0
    for chunk in chunks:
        frames += len(decoder.feed(chunk))
    return frames


def derp_against(chunks: list[bytes]) -> int:
    """The least a decoder can do: find each frame's end and copy it out, with no limit and no check."""
    buffer = b""
    count = 0
    for chunk in chunks:
        frames = []
        buffer = buffer + chunk
        start = 0
        while len(buffer) - start >= 5:
            end = start + 5 + struct.unpack_from(">I", buffer, start + 1)[0]
            if end > len(buffer):
                break
            frames.append((buffer[start], buffer[start + 5 : end]))
            start = end
        buffer = buffer[start:]
        count += len(frames)
    return count


def http2_ours(answers: list[bytes]) -> int:
    client = Http2Client()
    for answer in answers:
        client.request("POST", "wayhome.example", "/machine/map", [("ts-lb", "nodekey:0")], b"{}")
        client.data_to_send()
        client.feed(answer)
    return len(answers)


def read_answers(path: str) -> list[bytes]:
    answers: list[bytes] = []
    with open(path, "rb") as file:
        while True:
            header = file.read(4)
            if not header:
                return answers
            answers.append(file.read(struct.unpack(">I", header)[0]))


def report(name: str, side: str, call, *arguments) -> None:  # type: ignore[no-untyped-def]  # MicroPython has no Callable
    gc.collect()
    operations = 0
    start = now_ns()
    for _ in range(REPEATS):
        operations += call(*arguments)
    print(name, side, (now_ns() - start) / 1000 / operations)


def main() -> None:
    if hasattr(gc, "threshold"):
        gc.threshold(128 * 1024)  # as the daemon does
    records = noise_records()
    nonces = [bytes(4) + i.to_bytes(8, "big") for i in range(RECORDS)]
    stream = encode_frame(RECV_PACKET, bytes(FRAME_BYTES)) * FRAMES
    chunks = [stream[i : i + CHUNK_BYTES] for i in range(0, len(stream), CHUNK_BYTES)]
    answers = read_answers(sys.argv[2])
    for _ in range(int(sys.argv[3])):
        report("noise_seal", "ours", seal_ours)
        report("noise_seal", "against", seal_against)
        report("noise_open", "ours", open_ours, records)
        report("noise_open", "against", open_against, records, nonces)
        report("derp_decode", "ours", derp_ours, chunks)
        report("derp_decode", "against", derp_against, chunks)
        report("http2_request", "ours", http2_ours, answers)


main()
