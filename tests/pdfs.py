"""Small PDFs written by hand: objects in, the bytes of a file out."""

import hashlib
import zlib

from PIL import Image

FONT = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def stream(content: bytes, entries: str = "") -> bytes:
    """The body of a stream object."""
    return f"<< {entries} /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream"


def pdf(objects: dict[int, str | bytes], *, trailer: str = "") -> bytes:
    """A file of these objects; number 1 is the catalogue."""
    data, places = b"%PDF-1.7\n", {}
    for number, body in objects.items():
        places[number] = len(data)
        body = body.encode("latin-1") if isinstance(body, str) else body
        data += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    size = max(objects) + 1
    table = [f"{places[n]:010} 00000 n \n" if n in places else "0000000000 65535 f \n" for n in range(size)]
    return (
        data
        + f"xref\n0 {size}\n{''.join(table)}trailer\n<< /Size {size} /Root 1 0 R {trailer} >>\n"
        f"startxref\n{len(data)}\n%%EOF\n".encode()
    )


def document(*contents: bytes, box: str = "0 0 200 100", page: str = "", more: dict | None = None) -> bytes:
    """Pages of one size with these drawing instructions; `page` is put into each page's dictionary.

    Objects from 1,000 on are free for `more`; F is Helvetica.
    """
    kids = " ".join(f"{10 + 2 * n} 0 R" for n in range(len(contents)))
    objects: dict[int, str | bytes] = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>",
        3: FONT,
    }
    for n, content in enumerate(contents):
        objects[10 + 2 * n] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [{box}] /Contents {11 + 2 * n} 0 R "
            f"/Resources << /Font << /F 3 0 R >> /XObject << /X 1000 0 R >> >> {page} >>"
        )
        objects[11 + 2 * n] = stream(content)
    return pdf(objects | (more or {}))


def picture(image: Image.Image) -> bytes:
    """One page that is a picture, without loss, a pixel to a point."""
    width, height = image.size
    data = zlib.compress(image.convert("RGB").tobytes())
    entries = (
        f"/Type /XObject /Subtype /Image /Width {width} /Height {height} /ColorSpace /DeviceRGB "
        "/BitsPerComponent 8 /Filter /FlateDecode"
    )
    content = f"q {width} 0 0 {height} 0 0 cm /X Do Q".encode()
    return document(content, box=f"0 0 {width} {height}", more={1000: stream(data, entries)})


def encrypted(content: bytes, password: bytes) -> bytes:
    """One page in RC4 of 40 bits, the oldest way, which takes the fewest lines."""
    pad = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")
    identity = b"0123456789abcdef"
    padded = (password + pad)[:32]
    owner = rc4(hashlib.md5(padded).digest()[:5], padded)
    key = hashlib.md5(padded + owner + (-4).to_bytes(4, "little", signed=True) + identity).digest()[:5]
    own = hashlib.md5(key + (11).to_bytes(3, "little") + b"\0\0").digest()[:10]
    security = f"<< /Filter /Standard /V 1 /R 2 /O <{owner.hex()}> /U <{rc4(key, pad).hex()}> /P -4 >>"
    objects: dict[int, str | bytes] = {
        1: "<< /Type /Catalog /Pages 2 0 R >>",
        2: "<< /Type /Pages /Kids [10 0 R] /Count 1 >>",
        10: "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 100] /Contents 11 0 R >>",
        11: stream(rc4(own, content)),
        20: security,
    }
    return pdf(objects, trailer=f"/Encrypt 20 0 R /ID [<{identity.hex()}> <{identity.hex()}>]")


def rc4(key: bytes, data: bytes) -> bytes:
    """Its own inverse."""
    state, j = list(range(256)), 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    out, i, j = bytearray(), 0, 0
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)
