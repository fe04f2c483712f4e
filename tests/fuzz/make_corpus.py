#!/usr/bin/env python3
"""Writes the seed corpora of the wire targets into tests/fuzz/corpus: one small file for each kind of
input. Run it again after changing it; the files are kept in the repository, so that a build needs no
Python for them."""
import os
import struct
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for b in data:
        crc ^= b
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def s(text) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">H", len(raw)) + raw


def varint(n: int) -> bytes:
    out = b""
    while True:
        n, low = n >> 7, n & 127
        out += bytes([low | (128 if n else 0)])
        if not n:
            return out


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + varint(len(body)) + body


def props(raw: bytes = b"") -> bytes:
    return varint(len(raw)) + raw


MESSAGE = (b"\x01\x01" + b"\x03" + s("text/plain") + b"\x08" + s("re/ply") + b"\x09" + s(b"\x00\xff")
           + b"\x26" + s("tag") + s("t1") + b"\x26" + s("cat") + s("é"))


def mqtt():
    v3, v5, v5_client = b"\0", b"\1", b"\3"
    will5 = props(b"\x18\0\0\0\7\x02\0\0\0\x1e" + MESSAGE) + s("will/t") + s("bye")
    con5 = (b"\x11\0\0\0\x0a\x21\0\x14\x27\0\0\1\0\x22\0\5\x19\1\x17\0\x26" + s("a") + s("b")
            + b"\x15" + s("plain") + b"\x16" + s(b"\0\1"))
    return {
        "connect3": v3 + packet(0x10, s("MQTT") + b"\4\xee\0\x3c" + s("id") + s("w/t") + s("bye")
                                + s("user") + s("pass")),
        "connect3_old": v3 + packet(0x10, s("MQIsdp") + b"\3\2\0\0" + s("id")),
        "connect5": v5 + packet(0x10, s("MQTT") + b"\5\xf6\0\x3c" + props(con5) + s("id") + will5
                                + s("user") + s(b"\0\xff")),
        "connect5_bare": v5 + packet(0x10, s("MQTT") + b"\5\2\0\0" + props() + s("")),
        "publish3": v3 + packet(0x30, s("chan/key/level") + b"payload"),
        "publish3_qos": v3 + packet(0x3d, s("c") + b"\1\2" + b"x"),
        "publish5": v5 + packet(0x32, s("chan/key") + b"\0\1" + props() + b"payload"),
        "publish5_props": v5 + packet(0x34, s("chan/é") + b"\0\1" + props(
            b"\x02\0\0\0\x3c\x23\0\5" + MESSAGE) + b"text"),
        "publish5_alias": v5 + packet(0x30, s("") + props(b"\x23\0\1") + b"x"),
        "publish5_ids": v5_client + packet(0x30, s("a") + props(b"\x0b\x80\1\x0b\2") + b"x"),
        "acks3": v3 + b"".join(packet(t, b"\0\1") for t in (0x40, 0x50, 0x62, 0x70)),
        "acks5": v5 + packet(0x40, b"\0\1\x87" + props(b"\x1f" + s("no"))) + packet(0x50, b"\0\2\x10")
        + packet(0x62, b"\0\3\x92\0") + packet(0x70, b"\0\4"),
        "subscribe3": v3 + packet(0x82, b"\0\1" + s("a/+") + b"\1" + s("#") + b"\0"),
        "subscribe5": v5 + packet(0x82, b"\0\1" + props(b"\x0b\x80\1\x26" + s("k") + s("v"))
                                  + s("a/#") + b"\x2e" + s("$share/g/a") + b"\1"),
        "unsubscribe3": v3 + packet(0xa2, b"\0\1" + s("a/+") + s("#")),
        "unsubscribe5": v5 + packet(0xa2, b"\0\1" + props() + s("$share/g/a")),
        "pings": v3 + b"\xc0\0\xd0\0\xe0\0",
        "disconnect5": v5 + packet(0xe0, b"\4" + props(b"\x11\0\0\0\7\x1f" + s("bye"))),
    }


def topic():
    rows = {
        "exact": ("a/b", "a/b", "a/b"), "plus": ("a/+/c", "a/#", "a/b/c"), "hash": ("#", "+/#", "a"),
        "parent": ("a/#", "a", "a"), "empty": ("/+/#", "/#", "/"), "dollar": ("$SYS/#", "+/a", "$SYS/a"),
        "share": ("$share/g/a/#", "a/+", "a/"), "utf8": ("é/+", "é/#", "é/ü"),
        "usable": ("chan.A-1_x/k", "+/k", "chan.A-1_x/k"), "bad": ("a#", "+a", "a/+"),
    }
    return {k: "\n".join(v).encode() for k, v in rows.items()}


def http():
    head, chunk = b"\0\7", b"\1\3"
    host = b"Host: localhost:8080\r\n"
    return {
        "get": head + b"GET /v1/a%20b?x=1&y=a+b HTTP/1.1\r\n" + host + b"Accept: */*\r\n\r\n",
        "get10": head + b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "post": head + b"POST /p HTTP/1.1\r\n" + host + b"Content-Length: 5\r\n"
                b"Expect: 100-continue\r\n\r\nhello",
        "chunked": head + b"POST /p HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n",
        "smuggle": head + b"POST / HTTP/1.1\r\n" + host + b"Content-Length: 5\r\n"
                   b"Transfer-Encoding: chunked\r\n\r\n",
        "upgrade": head + b"GET /mqtt HTTP/1.1\r\n" + host + b"Connection: keep-alive, Upgrade\r\n"
                   b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
        "absolute": head + b"GET http://h:80/p?q HTTP/1.1\r\n" + host + b"\r\n",
        "asterisk": head + b"\r\nOPTIONS * HTTP/1.1\r\n" + host + b"\r\n",
        "fold": head + b"GET / HTTP/1.1\r\n" + host + b"A: b\r\n c\r\n\r\n",
        "connect": head + b"CONNECT h:443 HTTP/1.1\r\n" + host + b"\r\n",
        "body": chunk + b"3\r\nabc\r\n1a;n=\"v\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nSum: 1\r\n\r\nGET",
        "body_empty": chunk + b"0\r\n\r\n",
        "body_large": chunk + b"ffffffffffffffff\r\n",
    }


def http_conn():
    host = b" HTTP/1.1\r\nHost: x\r\n"
    post = b"POST /p" + host
    return {
        "pipeline": b"\3GET /" + host + b"\r\nGET /g/a/b?c=d" + host + b"\r\nHEAD /" + host + b"\r\n",
        "bodies": b"\7" + post + b"Content-Length: 5\r\n\r\nhello" + post +
                  b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /" + host + b"\r\n",
        "expect": b"\x1e" + post + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        "later": b"\2GET /l" + host + b"\r\nGET /" + host + b"\r\nPOST /l" + host +
                 b"Content-Length: 2\r\n\r\nhi",
        "refused": b"\0" + post + b"Content-Length: 999\r\n\r\n",
        "unknown": b"\1GET /none" + host + b"\r\nDELETE /p" + host + b"\r\nOPTIONS *" + host +
                   b"\r\nOPTIONS /p" + host + b"\r\nBREW /" + host + b"\r\n",
        "big": b"\xffGET /big" + host + b"\r\nGET /big" + host + b"\r\nGET /" + host + b"\r\n",
        "old": b"\4GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n",
        "long": b"\5GET /" + b"a" * 1100,
        "fields": b"\5GET /" + host + b"A: " + b"a" * 1100,
        "drain": b"\x81GET /" + host + b"\r\nGET /" + host + b"\r\n",
        "timeout": b"\x82GET /" + host + b"\r\nGET /",
        "smuggle": b"\6" + post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    }


def proxy():
    sig = b"\r\n\r\n\0\r\nQUIT\n"
    v4, v6 = bytes(range(12)), bytes(range(36))

    def tlv(kind, raw):
        return bytes([kind]) + s(raw)

    def head(cmd, fam, raw):
        return b"\0" + sig + bytes([0x20 | cmd, fam]) + struct.pack(">H", len(raw)) + raw

    ssl = tlv(0x20, b"\7\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"device-1")
              + tlv(0x23, b"ECDHE") + tlv(0x24, b"SHA256") + tlv(0x25, b"RSA2048"))
    full = bytearray(head(1, 0x11, v4 + tlv(1, b"mqtt") + tlv(2, b"example.org") + tlv(4, b"\0\0")
                          + tlv(5, b"id-1") + ssl + tlv(3, b"\0\0\0\0")))
    full[-4:] = struct.pack(">I", crc32c(bytes(full[1:])))
    mended = bytes([1]) + bytes(full[1:-4]) + b"\0\0\0\0"
    return {
        "local": head(0, 0, b""), "tcp4": head(1, 0x11, v4) + b"\x10\x0c", "tcp6": head(1, 0x21, v6),
        "udp4": head(1, 0x12, v4), "unix": head(1, 0x31, b"/run/a".ljust(108, b"\0") + b"/" * 108),
        "unspec": head(1, 0, b"noise"), "full": bytes(full), "mended": mended,
    }


def rec():
    def make(flags, topic, pid, prop, ext, val, key_off=0xFFFF, kind=1, packet_id=0, seal=b"\0"):
        body = topic + pid + prop + ext + val
        pad = -len(body) % 8
        rest = struct.pack("<QQqIHHHHBBH", 8, 1, 1700000000 * 10**9, 3, len(topic), key_off, len(pid),
                           len(prop), kind | pad << 5, flags, packet_id) + body + b"\0" * pad
        return seal + struct.pack("<II", 8 + len(rest), crc32c(rest)) + rest

    return {
        "plain": make(0, b"c", b"dev", b"", b"", b"21.5"),
        "key": make(5, b"c/k", b"dev", b"\1\1", b"", b"hello", 2),
        "all": make(2 | 8 | 16 | 32, b"c/k", b"dev", b"\1\1", bytes(20), b"v" * 40, 2, packet_id=7),
        "state": make(0, b"sess/x", b"", b"", b"", b"", kind=2, seal=b"\1"),
        "default": make(0, b"/odd topic", b"", b"", b"", b"x", 0, seal=b"\1"),
        "bad_crc": make(0, b"c", b"", b"", b"", b"12345678")[:-1] + b"9",
    }


def session():
    """Scripts of fuzz_session.c: client(n, op, a, b) and outside(op, a)."""
    def c(n, op, a=0, b=0): return bytes([1 | n << 1 | op << 3, a, b])
    def o(op, a=0): return bytes([op << 1, a])
    run, hold, go, fail, crash = o(7), o(0, 3), o(0, 1), o(2, 3), o(9, 1)
    up = c(1, 0, 8) + c(2, 0, 8 | 16) + c(3, 0, 8)
    subs = c(1, 4, 2, 2) + c(2, 4, 0, 1) + c(3, 4, 7, 1) + run
    pubs = b"".join(c(n % 3 + 1, 8, n * 5 & 255, n) + (run if n % 4 == 0 else b"") for n in range(40))
    acks = b"".join(c(n % 3 + 1, 6, n) + (run if n % 3 == 0 else b"") for n in range(60))
    return {
        "flow": up + subs + pubs + acks + pubs + acks,
        "crash": up + subs + pubs + acks[:60] + crash + up + pubs + acks + o(9, 0) + up + acks,
        "hold": up + subs + hold + pubs + o(1, 3) + fail + acks + go + run + pubs + acks,
        "takeover": up + subs + pubs + c(0, 0, 8) + pubs + acks + c(1, 0, 8) + pubs + acks + c(0, 0, 7),
        "blocked": up + subs + c(1, 2) + c(2, 2) + pubs + pubs + c(1, 2) + acks + c(2, 2) + acks,
        "reads": up + subs + pubs + c(1, 0) + pubs + o(4, 1) + c(1, 0, 8 | 16) + acks + o(4, 0) + o(5, 1)
                 + c(2, 0) + c(2, 0, 8) + o(5, 0) + c(2, 0, 8) + acks,
    }


def ws():
    """Four bytes pick rules (1 client, 2 deflate, 4 no text, 8 no binary), hold, step and seed."""
    key = b"\x37\xfa\x21\x3d"

    def frame(first, data, masked=True):
        n = len(data)
        size = bytes([n]) if n < 126 else b"\x7e" + struct.pack(">H", n)
        head = bytes([first, size[0] | (128 if masked else 0)]) + size[1:]
        return head + (key + bytes(c ^ key[i % 4] for i, c in enumerate(data)) if masked else data)

    srv, cli, small = b"\0\x40\5\1", b"\1\x40\5\1", b"\0\0\1\0"
    return {
        "text": srv + frame(0x81, "héllo €😀".encode()),
        "text_client": cli + frame(0x81, "héllo €😀".encode(), False) + frame(0x82, b"x" * 200, False),
        "fragments": small + frame(1, b"h\xc3") + frame(0x89, b"ping") + frame(0, b"\xa9l")
        + frame(0x8a, b"") + frame(0x80, b"lo") + frame(0x82, b""),
        "deflated": b"\2\4\3\7" + frame(0x41, b"\xf2\x48\xcd") + frame(0x80, b"\xc9\xc9\7\0"),
        "long": srv + frame(0x82, bytes(range(200))) + frame(0x82, bytes(126)),
        "close": srv + frame(0x81, b"a") + frame(0x88, b"\x03\xe8bye") + b"rest",
        "close_bare": cli + frame(0x88, b"", False), "close_bad": srv + frame(0x88, b"\x03\xed"),
        "too_big": cli + b"\x82\x7f\0\0\0\0\0\1\0\0", "many": cli + b"\2\0" + b"\0\0" * 6,
        "bad_utf8": srv + frame(0x81, b"ab\xed\xa0\x80"), "no_text": b"\4\0\0\0" + frame(0x81, b"a"),
    }


def ws_handshake():
    key, pmd = b"dGhlIHNhbXBsZSBub25jZQ==", b"permessage-deflate"
    get = (b"GET /chat HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
           b"Sec-WebSocket-Key: " + key + b"\r\nSec-WebSocket-Version: 13\r\n")
    ok = (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")
    name, proto = b"Sec-WebSocket-Extensions: ", b"Sec-WebSocket-Protocol: "
    offer = (b"x; a=b, " + pmd + b"; server_max_window_bits=10; client_max_window_bits=\"12\", " + pmd
             + b"; client_no_context_takeover; client_max_window_bits")
    answer = pmd + b"; server_no_context_takeover; client_no_context_takeover; client_max_window_bits=9"
    return {
        "get": b"\0" + get + b"\r\n", "mqtt": b"\x0c" + get + proto + b"chat, mqtt\r\n\r\n",
        "offers": b"\0" + get + name + offer + b"\r\n\r\n", "shared": b"\x08" + get + name + offer
        + b"\r\n\r\n", "answer": b"\1" + ok + proto + b"chat\r\n\r\n",
        "answer_pmd": b"\x09" + ok + name + answer + b"\r\n\r\n", "choose": b"\2" + offer,
        "choose_shared": b"\x0a" + offer, "accept": b"\3" + answer, "accept_shared": b"\x0b" + answer,
    }


def deflate():
    def squeeze(data, level=6, strategy=zlib.Z_DEFAULT_STRATEGY):
        z = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
        return z.compress(data) + z.flush(zlib.Z_SYNC_FLUSH)[:-4]

    text = b'{"typ":7,"chn":"iss","key":"pos","val":{"latitude":"12.5","longitude":"-3.25"}}'
    return {
        "hello": b"\xff" + squeeze(b"Hello"), "json": b"\x7f" + squeeze(text * 3), "plain": b"\x0f" + text * 8,
        "stored": b"\xff" + squeeze(text, 0), "fixed": b"\xff" + squeeze(text, 6, zlib.Z_FIXED),
        "final": b"\xff\xf3\x48\xcd\xc9\xc9\7\0\0", "final_bare": b"\xff\xf3\x48\xcd\xc9\xc9\7\0",
        "bomb": b"\x0a" + squeeze(bytes(200000)), "empty": b"\xff\0", "swallow":
        b"\xff\0\6\0\xf9\xffhello",
def json_texts():
    return {
        "object": b'{"latitude":"12.5","n":[1,-2.5e3,0],"t":true,"f":false,"z":null}',
        "escapes": b'"a\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83d\\ude00\\u0000"',
        "lone": b'["\\ud800",{"\\udc00":1}]', "utf8": '{"é":"€😀"}'.encode(),
        "space": b' \t\r\n[ 1 , { "a" : [ ] } ] \n', "deep": b"[" * 128 + b"]" * 128,
        "deeper": b'{"a":[' * 64 + b"[]" + b"]}" * 64, "twice": b'{"a":1,"val":[{}],"\\u0061":2}',
        "ints": b"[0,-0,127,128,255,256,65535,65536,4294967296,18446744073709551615,"
                b"18446744073709551616,-1,-32,-33,-129,-32769,-2147483649,-9223372036854775809]",
        "floats": b"[1.0,-0.0,0.1,1e22,1e23,9007199254740993.0,1e400,-1e-400,2.2250738585072011e-308,"
                  b"0.500000000000000166533453693773481063544750213623046875]",
        "many": b"[" + b",".join(b"%d" % i for i in range(40)) + b"]",
        "long": b'"' + b"0123456789abcdef" * 20 + b'"', "bad": b"[1,]", "text": b"on \xff",
    }


def msgpack():
    out = {"json_" + k: b"\0" + v for k, v in json_texts().items()}
    one = b"\1"
    out.update({
        "scalars": one + b"\x9f\xc0\xc2\xc3\x7f\xff\xcc\xff\xcd\1\0\xd0\x80\xd1\x80\0"
                         b"\xca?\0\0\0\xcb?\xb9\x99\x99\x99\x99\x99\x9a\xa1a\xd9\1b\xc4\2\xff\0\x90",
        "large": one + b"\x94\xcf" + b"\xff" * 8 + b"\xd3\x80" + b"\0" * 7 + b"\xdb\0\0\0\1z\xc6\0\0\0\1z",
        "map": one + b"\x82\xa1a\x81\xa1b\x92\1\x80\xa1c\xde\0\1\xa0\xdc\0\1\xc0",
        "ext": one + b"\x94\xd4\1z\xd6\xff\0\0\0\0\xc7\1\1z\xc9\0\0\0\0\1",
        "odd_keys": one + b"\x82\1\2\x90\3", "deep": one + b"\x91" * 128 + b"\1", "cut": one + b"\x92\1",
        "count": one + b"\xdd\xff\xff\xff\xff\1", "inf": one + b"\xcb\x7f\xf0" + b"\0" * 6,
    })
    return out


def hubmsg():
    props = b"\x26" + s("tag") + s("t1") + b"\x26" + s("cat") + s("alarm")
    return {
        "query": b"\0channels=iss,b%2D,_&user_id=u+1&apiKey=k&format=text&encoding=json&snapshot=true"
                 b"&keys=+/%23&cats=a,b&conflate=250&pos=true",
        "since_list": b"\0channels=a,b&since=a:e-1,b:2026-01-01T00:00:00Z",
        "since_start": b"\0channels=a,b&since=start", "since_pos": b"\0channels=a&since=e1.x-42",
        "since_time": b"\0channels=a&since=2026-01-01T00:00:00.5%2B01:00",
        "query09": b"\4channels=iss&format=binary&snapshot=false",
        "subscribe": b'\1{"typ":3,"chn":"iss","snapshot":true}',
        "unsubscribe": b'\1{"typ":5,"chn":"\\u0069ss","val":{}}',
        "subscribe09": b'\5{"type":2,"channel":"iss"}',
        "subscribe_msgpack": b"\x09\x83\xa3typ\3\xa3chn\xa3iss\xa8snapshot\xc3",
        "publish": b'\2{"id":"x\\n","key":"k\\/l","tag":"\\u0074","cat":"c","val":{"a":1.0}}',
        "publish_b64": b'\2{"id":7,"b64":"\\/wA=","key":"\\u0061"}',
        "message": b"\3c/k/l\nfeed\n" + props + b'\n{"a":[1,2.5,"x"]}',
        "message_text": b"\3c\n\n\non \"x\"\r\n", "message_bin": b"\3/odd\n\xff\n\n\xff\0",
    }


def main():
    for name, make in (("mqtt", mqtt), ("session", session), ("topic", topic), ("http", http), ("http_conn", http_conn),
                       ("proxy", proxy), ("rec", rec), ("ws", ws), ("ws_handshake", ws_handshake),
                       ("deflate", deflate)):
    for name, make in (("json", json_texts), ("msgpack", msgpack), ("hubmsg", hubmsg),
                       ("mqtt", mqtt), ("session", session), ("topic", topic), ("http", http), ("http_conn", http_conn),
                       ("proxy", proxy), ("rec", rec)):
        folder = os.path.join(HERE, "corpus", name)
        os.makedirs(folder, exist_ok=True)
        for key, raw in make().items():
            with open(os.path.join(folder, key), "wb") as f:
                f.write(raw)


if __name__ == "__main__":
    main()
