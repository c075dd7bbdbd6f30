"""Which bytes are of which type."""

import pytest

from svc_messaging import media_types

OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ZIP = b"PK\x03\x04\x14\x00"
OFFICE = "application/vnd.openxmlformats-officedocument"
MP4 = b"\x00\x00\x00\x18ftyp"

SAMPLES = {
    "image/jpeg": [b"\xff\xd8\xff\xe0\x00\x10JFIF", b"\xff\xd8\xff\xe1\x00\x10Exif"],
    "image/png": [b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"],
    "image/webp": [b"RIFF\x24\x00\x00\x00WEBPVP8X"],
    "audio/aac": [b"\xff\xf1\x50\x80", b"\xff\xf9\x50\x80", b"ADIF"],
    "audio/amr": [b"#!AMR\n", b"#!AMR-WB\n"],
    "audio/mpeg": [b"ID3\x04", b"\xff\xfb\x90\x00", b"\xff\xf3\x40\xc0\x00"],
    "audio/mp4": [MP4 + b"M4A ", MP4 + b"isom"],
    "audio/ogg": [b"OggS" + b"\x00" * 24 + b"OpusHead"],
    "video/mp4": [MP4 + b"isom", MP4 + b"mp42"],
    "video/3gpp": [MP4 + b"3gp4"],
    "application/pdf": [b"%PDF-1.4\n", b"\xef\xbb\xbf%PDF-1.7"],
    "application/msword": [OLE],
    "application/vnd.ms-excel": [OLE],
    "application/vnd.ms-powerpoint": [OLE],
    f"{OFFICE}.wordprocessingml.document": [ZIP],
    f"{OFFICE}.spreadsheetml.sheet": [ZIP],
    f"{OFFICE}.presentationml.presentation": [ZIP],
    "text/plain": [b"Hello", "Grüße\r\n".encode(), "Grüße".encode("latin-1"), "Hi".encode("utf-16")],
}
# Types that share their first bytes.
ALIKE = [
    {"audio/aac", "audio/mpeg"},
    {"audio/mp4", "video/mp4"},
    {name for name, samples in SAMPLES.items() if OLE in samples},
    {name for name, samples in SAMPLES.items() if ZIP in samples},
    # Letters are plain text, whatever else they may begin.
    {"text/plain", "audio/aac", "audio/amr", "application/pdf"},
]


def test_every_type_has_samples():
    assert SAMPLES.keys() == media_types.TYPES.keys()


@pytest.mark.parametrize("name", SAMPLES)
def test_a_type_knows_its_own_bytes(name):
    for sample in SAMPLES[name]:
        assert media_types.TYPES[name].begins(sample)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_type_knows_the_bytes_of_others(name):
    for other, samples in SAMPLES.items():
        if other != name and not any({name, other} <= alike for alike in ALIKE):
            assert not any(media_types.TYPES[name].begins(sample) for sample in samples), other


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "text/plain"])
def test_a_few_bytes_or_a_web_page_are_nothing_but_text(name):
    for head in (b"", b"\xff", b"<!doctype html><script>", b"MZ\x90\x00"):
        assert not media_types.TYPES[name].begins(head)


def test_limits_are_metas():
    limits = {name: found.max_bytes for name, found in media_types.TYPES.items()}
    assert limits["image/jpeg"] == limits["image/png"] == media_types.IMAGE_BYTES_MAX == 5 * 1024**2
    assert limits["video/mp4"] == limits["audio/ogg"] == 16 * 1024**2
    assert limits["application/pdf"] == 100 * 1024**2
    assert limits["image/webp"] == 500 * 1024
