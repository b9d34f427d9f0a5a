"""Images that mean harm, or are none, as bytes; each is refused, or decoded to a harmless picture."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

SCRIPT = "<script>alert(1)</script>"


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The file of a picture."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def noise(side: int = 64) -> Image.Image:
    """A picture that does not compress."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def refused() -> dict[str, bytes]:
    """What must never become a picture, by name."""
    files = {f"cut {kind}": encoded(noise(), kind)[:700] for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")}
    return files | _no_pictures() | _huge()


def _no_pictures() -> dict[str, bytes]:
    entity = b'<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    return {
        "empty": b"",
        "one byte": b"\xff",
        "zeros": bytes(4096),
        "text": b"GET / HTTP/1.1\r\n\r\n",
        "JSON": b'{"image": "/etc/passwd"}',
        "SVG": b'<?xml version="1.0"?>' + entity + b'<svg xmlns="http://www.w3.org/2000/svg"><text>&x;</text></svg>',
        "HTML": b"<!DOCTYPE html><html><script>alert(1)</script></html>",
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",  # would start Ghostscript
        "PDF": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
        "ZIP": b"PK\x03\x04" + bytes(60),
        "executable": b"\x7fELF\x02\x01\x01" + bytes(100),
        "MVG": b"push graphic-context\nimage over 0,0 0,0 'https://127.0.0.1/x'\npop graphic-context\n",
        "ICO": encoded(noise(32), "ICO"),  # of a kind that is not read
        "only a magic number": b"\x89PNG\r\n\x1a\n",
        "JPEG without a frame": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xd9",
        "GIF that is a script": b"GIF89a/*" + bytes(4) + b"*/=1;alert(1)//",
        "a kilobyte of JPEG starts": b"\xff\xd8" * 512,
    }


def _huge() -> dict[str, bytes]:
    side = (60_000).to_bytes(4, "little")
    bomb = zlib.compress(bytes(30_000_000), 9)  # 30 MB out of 29 kB, of a picture that would be 900 million pixels
    return {
        "PNG of 30,000 x 30,000": png(30_000, 30_000, bomb),
        "PNG of 10,001 x 10,001": png(10_001, 10_001, bomb),
        "PNG of 2^31 x 2^31": png(2**31 - 1, 2**31 - 1, b""),
        "PNG of 0 x 0": png(0, 0, b""),
        "PNG with text of 30 MB": png(1, 1, zlib.compress(b"\0\0"), (b"zTXt", b"Comment\0\0" + bomb)),
        "GIF of 65,535 x 65,535": b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x02\0;",
        "BMP of 60,000 x 60,000": b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + side * 2 + b"\1\0\x18\0" + bytes(24),
        "PPM of 99,999 x 99,999": b"P6 99999 99999 255\n" + bytes(30),
        "WEBP of 16,383 x 16,383": _webp(16_383),
        "TIFF that goes round": b"II*\0\x08\0\0\0\1\0\0\1\3\0\1\0\0\0\x10\0\0\0\x08\0\0\0",
        "TIFF of a billion tags": b"II*\0\x08\0\0\0\xff\xff" + bytes(40),
    }


def harmless() -> dict[str, bytes]:
    """Pictures with more in them than a picture: what comes back of them must be the picture alone."""
    comment = PngImagePlugin.PngInfo()
    comment.add_itxt("Comment", SCRIPT)
    exif = Image.Exif()
    exif[0x010E] = SCRIPT  # its description
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 0.0)}  # where it was taken
    return {
        "PNG with a script": encoded(noise(), pnginfo=comment),
        "PNG before a ZIP": encoded(noise()) + b"PK\x03\x04" + SCRIPT.encode(),
        "PNG before HTML": encoded(noise()) + SCRIPT.encode(),
        "JPEG with a script": encoded(noise(), "JPEG", comment=SCRIPT.encode()),
        "JPEG with a place": encoded(noise(), "JPEG", exif=exif),
        "GIF with a script": encoded(noise(), "GIF", comment=SCRIPT.encode()),
    }


def png(width: int, height: int, data: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG that promises this size of grey, whatever its data hold."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), *more, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _webp(side: int) -> bytes:
    """A WebP whose header promises a square of this side."""
    canvas = bytes(4) + (side - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + (10).to_bytes(4, "little") + canvas
    return b"RIFF" + len(body).to_bytes(4, "little") + body
