#!/usr/bin/env python3
"""Idle clients: `idle.py PORT COUNT USER PASSWORD DATABASE [SSLMODE]` logs that many in (SCRAM or trust; with TLS
where the last is `require`), has each ask `select 1`
once, prints `ready`, and holds them until its standard input ends."""

import asyncio
import base64
import hashlib
import hmac
import os
import ssl
import struct
import sys

CONCURRENT_LOGINS = 50
LOGIN_TIMEOUT = 120


def message(tag: bytes, body: bytes) -> bytes:
    return tag + struct.pack("!i", len(body) + 4) + body


class Client:
    def __init__(self, port: int, user: str, password: str, database: str, tls: ssl.SSLContext | None):
        self.port, self.user, self.password, self.database, self.tls = port, user, password, database, tls
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def login(self) -> None:
        # A small buffer: thousands of these live in one process.
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=4096)
        if self.tls:
            self.writer.write(struct.pack("!ii", 8, 80877103))
            if await self.reader.readexactly(1) != b"S":
                raise RuntimeError("no TLS")
            await self.writer.start_tls(self.tls)
        startup = struct.pack("!i", 3 << 16) + b"".join(
            part.encode() + b"\0" for part in ("user", self.user, "database", self.database)) + b"\0"
        self.writer.write(struct.pack("!i", len(startup) + 4) + startup)
        while True:
            tag, body = await self.read()
            if tag == b"R":
                await self.authenticate(body)
            elif tag == b"Z":
                return

    async def ask(self) -> None:
        self.writer.write(message(b"Q", b"select 1\0"))
        while (await self.read())[0] != b"Z":
            pass

    async def authenticate(self, body: bytes) -> None:
        kind = struct.unpack("!i", body[:4])[0]
        if kind == 10:
            await self.scram()
        elif kind != 0:
            raise RuntimeError(f"authentication request {kind}")

    async def scram(self) -> None:
        nonce = base64.b64encode(os.urandom(18)).decode()
        first_bare = f"n=,r={nonce}"
        first = ("n,," + first_bare).encode()
        self.writer.write(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first))
        server_first = (await self.sasl(11)).decode()
        fields = dict(field.split("=", 1) for field in server_first.split(","))
        salted = hashlib.pbkdf2_hmac(
            "sha256", self.password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        final_bare = f"c=biws,r={fields['r']}"
        signed = f"{first_bare},{server_first},{final_bare}".encode()
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = base64.b64encode(bytes(left ^ right for left, right in zip(key, signature))).decode()
        self.writer.write(message(b"p", f"{final_bare},p={proof}".encode()))
        await self.sasl(12)

    async def sasl(self, wanted: int) -> bytes:
        tag, body = await self.read()
        if tag != b"R" or struct.unpack("!i", body[:4])[0] != wanted:
            raise RuntimeError(f"no SASL answer {wanted} but {tag!r} {body!r}")
        return body[4:]

    async def read(self) -> tuple[bytes, bytes]:
        header = await self.reader.readexactly(5)
        body = await self.reader.readexactly(struct.unpack("!i", header[1:])[0] - 4)
        if header[:1] == b"E":
            raise RuntimeError(f"error from the pooler: {body!r}")
        return header[:1], body


async def main() -> None:
    port, count, user, password, database, *sslmode = sys.argv[1:]
    tls = None
    if sslmode == ["require"]:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    clients = [Client(int(port), user, password, database, tls) for _ in range(int(count))]
    places = asyncio.Semaphore(CONCURRENT_LOGINS)

    async def enter(client: Client) -> None:
        async with places:
            async with asyncio.timeout(LOGIN_TIMEOUT):
                await client.login()
                await client.ask()

    await asyncio.gather(*(enter(client) for client in clients))
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for client in clients:
        client.writer.transport.abort()


asyncio.run(main())
