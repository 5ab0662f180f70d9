"""Opens a Lintas packet (suite 1). Written from docs/FORMAT.md; no code of Lintas is used.

    pip install 'cryptography>=50' && python3 open_packet.py packet.json

Checks that the packet is authentic and whole. Not checked: label, times, codes, order of the public key."""
import hashlib, json, sys
from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric import ed25519, mlkem, x25519

def need(holds, what):
    if not holds: raise ValueError(what)

def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def fields(data):  # protobuf wire format, varints and byte strings only: {tag: [value, ...]}
    at, last, out = 0, 0, {}
    def varint():
        nonlocal at
        value = shift = 0
        while True:
            at, byte = at + 1, data[at]
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128: return value
    while at < len(data):
        tag, wire = divmod(varint(), 8)
        need(wire in (0, 2) and tag >= last, "fields out of order, or of a wire type that is not used")
        value, last = varint(), tag
        if wire == 2:
            value, at = data[at : at + value], at + value
            need(at <= len(data), "truncated field")
        out.setdefault(tag, []).append(value)
    return out

def segment_root(data, size=64 * 16400):  # the first segment also holds the head of 56 bytes
    pieces = [data[: 56 + size]] + [data[i : i + size] for i in range(56 + size, len(data), size)]
    def root(leaves):
        half = 1 << (len(leaves) - 1).bit_length() >> 1
        return sha256(b"\1", root(leaves[:half]), root(leaves[half:])) if half else leaves[0]
    return root([sha256(b"\0", piece) for piece in pieces])

def padme(length):
    bits = max(length.bit_length() - 1, 0)
    mask = (1 << bits - bits.bit_length()) - 1
    return length + mask & ~mask

def cobblestone(key, context, data):
    return (opener := Cobblestone256Decryptor(key, context)).update(data) + opener.finalize()

def open_packet(packet):
    signer, seed, signature, header, opening, wrap, sealed = (bytes.fromhex(packet[name]) for name in (
        "signing_key", "decryption_seed", "signature", "header", "opening", "wrap", "body"))
    pae = b"DSSEv1 41 application/vnd.lintas.header.v1+protobuf %d %s" % (len(header), header)
    ed25519.Ed25519PublicKey.from_public_bytes(signer).verify(signature, pae)
    at, core_bytes, wraps, root, length = packet["recipient_index"], *(fields(header)[i] for i in (1, 2, 3, 4))
    core, context = fields(core_bytes[0]), sha256(core_bytes[0])
    need(core[1] == [1] and core[4] == [sha256(b"\1\2", signer)], "suite or signing key")
    salt, agency, unit, key_id = (fields(opening)[tag][0] for tag in (1, 2, 3, 4))
    chosen = b"\1" if fields(opening).get(5) == [1] else b""  # the sender chose the unit itself
    committed = sha256(b"lintas/v1/recipient\0", salt, agency, b"\0", unit, b"\0", key_id, chosen)
    need(committed == core[15][at], "opening does not fit the header")
    need(sha256(wrap) == wraps[at], "key wrap does not fit the header")
    need(len(sealed) == length[0] and segment_root(sealed) == root[0], "body does not fit the header")
    keys = hashlib.shake_256(seed).digest(96)  # X-Wing: ML-KEM d and z, then the X25519 scalar
    secret = hpke.MLKEM768X25519PrivateKey(mlkem.MLKEM768PrivateKey.from_seed_bytes(keys[:64]),
                                           x25519.X25519PrivateKey.from_private_bytes(keys[64:]))
    suite = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)
    content_key = suite.decrypt(wrap, secret, b"lintas/v1/wrap\0" + context + key_id)[:32]
    plain = cobblestone(content_key, b"lintas/v1/body\0" + context, sealed)
    end = 4 + int.from_bytes(plain[:4], "big")
    need(len(plain) == max(512, padme(end)) and not any(plain[end:]), "padding of the body")
    body = fields(plain[4:end])
    for text in map(fields, body[2]):
        print("title [%s]: %s" % (text[1][0].decode(), text[2][0].decode()))
    named, opened, blobs = core.get(17, []), body.get(16, []), packet["blobs"]
    need(len(named) == len(opened) == len(blobs), "number of attachments")
    for i, (ref, key, blob) in enumerate(zip(map(fields, named), map(fields, opened), map(bytes.fromhex, blobs))):
        size, context = key.get(4, [0])[0], b"lintas/v1/blob\0" + core[2][0] + i.to_bytes(4, "big")
        blob_id = sha256(b"lintas/v1/blob-id\0", segment_root(blob), len(blob).to_bytes(8, "big"))
        need(ref == {1: [blob_id], 2: [len(blob)], 3: [segment_root(blob)]}, "attachment does not fit the core")
        file = cobblestone(key[1][0], context, blob)
        need(len(file) == padme(size) and not any(file[size:]), "padding of the attachment")
        need(sha256(file[:size]) == key[5][0], "content of the attachment")
        print("attachment %r: %d bytes, SHA-256 %s" % (key[2][0].decode(), size, key[5][0].hex()))

try:
    open_packet(json.load(open(sys.argv[1] if sys.argv[1:] else sys.exit("usage: open_packet.py PACKET.json"))))
except Exception as problem:  # a wrong signature or tag has a name, but no text
    sys.exit("refused: %s %s" % (type(problem).__name__, problem))
