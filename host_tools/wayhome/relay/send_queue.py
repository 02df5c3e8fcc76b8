"""What waits for one client: control frames, and two bounded queues of packets."""

from collections import deque


class SendQueue:
    """Frames on their way to one client.

    Two queues of packets, as derp.md section 4 has them: one for disco, one for the rest, so that a flood of data can't
    push out the messages that would find a direct path, nor the other way round. A full queue loses its oldest: of a
    tunnel's packets the newest are worth most. Bytes are bounded too, since a packet may have 64 KiB.
    """

    __slots__ = ("_bytes", "_bytes_most", "_control", "_data", "_disco", "_packets_most")

    def __init__(self, packets_most: int, bytes_most: int) -> None:
        self._packets_most = packets_most
        self._bytes_most = bytes_most
        self._control: deque[bytes] = deque()
        self._disco: deque[bytes] = deque()
        self._data: deque[bytes] = deque()
        self._bytes = [0, 0]  # of data, of disco

    def __bool__(self) -> bool:
        return bool(self._data or self._control or self._disco)

    @property
    def packets(self) -> int:
        return len(self._data) + len(self._disco)

    @property
    def size_bytes(self) -> int:
        """Return what the packets that wait come to."""
        return self._bytes[0] + self._bytes[1]

    def add_packet(self, frame: bytes, is_disco: bool) -> int:
        """Add a packet's frame; return how many older ones were dropped for it."""
        queue = self._disco if is_disco else self._data
        size = self._bytes[is_disco] + len(frame)
        dropped = 0
        while queue and (len(queue) >= self._packets_most or size > self._bytes_most):
            size -= len(queue.popleft())
            dropped += 1
        queue.append(frame)
        self._bytes[is_disco] = size
        return dropped

    def add_control(self, frame: bytes) -> int:
        """Add a frame that is no packet; return how many older ones were dropped for it."""
        self._control.append(frame)
        if len(self._control) > self._packets_most:
            self._control.popleft()
            return 1
        return 0

    def take(self, bytes_most: int) -> tuple[list[bytes], int]:
        """Remove and return frames of about bytes_most in all (at least one if any waits), and how many are packets.

        Control frames come first, then disco and data in turn.
        """
        if not self._control and not self._disco and self._bytes[0] <= bytes_most:
            frames = list(self._data)
            self._data.clear()
            self._bytes[0] = 0
            return frames, len(frames)
        frames = []
        packets = size = 0
        while self._control and size < bytes_most:
            frames.append(self._control.popleft())
            size += len(frames[-1])
        while (self._disco or self._data) and size < bytes_most:
            for is_disco, queue in ((True, self._disco), (False, self._data)):
                if queue:
                    frame = queue.popleft()
                    self._bytes[is_disco] -= len(frame)
                    size += len(frame)
                    packets += 1
                    frames.append(frame)
        return frames, packets

    def clear(self) -> int:
        """Forget everything; return how many packets were lost by it."""
        lost = self.packets
        for queue in (self._control, self._disco, self._data):
            queue.clear()
        self._bytes = [0, 0]
        return lost
