"""Verifies an audit log of Lintas. Written from docs/AUDIT.md and docs/FORMAT.md; no code of Lintas is used.

    pip install cryptography
    lintas --json region inspect directory.bin > region.json
    python3 verify_log.py FOLDER region.json [EARLIER.json ...]

FOLDER is a broker's audit/<number>, or <log name>/audit of a mirror: a root log with the folders of the sub-logs that are
there. The keys are those of region.json, so have that directory from whoever you trust. Directories of before are needed if
the region had fewer members then. Not checked: what events say of each other, and receipts; `lintas audit verify` does."""
import hashlib, hmac, json, os, sys
from base64 import b64decode, b64encode
from datetime import datetime, timezone
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

def need(holds, what):
    if not holds: raise ValueError(what)

def sha256(*parts): return hashlib.sha256(b"".join(parts)).digest()
def number(data): return int.from_bytes(data, "big")
def leaf_hash(entry): return sha256(b"\0", entry)

def cut(data, length_of):  # records, one behind the other
    out, at = [], 0
    while at < len(data):
        out.append(data[at : at + length_of(at)])
        at += length_of(at)
    need(at == len(data), "a record is cut")
    return out

def entries(data): return [one[2:] for one in cut(data, lambda at: 2 + number(data[at : at + 2]))]
def pairs(data, width): return {number(row[:8]): row[8:] for row in cut(data, lambda _: width)}

def fields(data):  # protobuf wire format, varints and byte strings only: {tag: the last value}
    at, out = 0, {}
    def varint():
        nonlocal at
        value = shift = 0
        while True:
            at, byte = at + 1, data[at]
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128: return value
    while at < len(data):
        tag, wire = divmod(varint(), 8)
        out[tag] = varint()
        if wire == 2: out[tag], at = data[at : at + out[tag]], at + out[tag]
    return out

def roots(hashes, sizes):  # {size: root of the Merkle tree over so many leaf hashes}
    need(all(size <= len(hashes) for size in sizes), "something is said of a larger log")
    peaks, out = [], {}  # a peak is (height, hash): a complete subtree that has no sibling yet
    for size, right in enumerate([None, *hashes]):
        height = 0
        while right and peaks and peaks[-1][0] == height:
            height, right = height + 1, sha256(b"\1", peaks.pop()[1], right)
        if right: peaks.append((height, right))
        if size in sizes:
            out[size] = peaks[-1][1] if peaks else sha256()
            for _, left in peaks[-2::-1]: out[size] = sha256(b"\1", left, out[size])
    return out

def numbered(n): return "/".join(f"x{n // 1000**i % 1000:03}" for i in (3, 2, 1) if n >= 1000**i) + "/" * (n > 999) + f"{n % 1000:03}"
def widths(size): return [(n, min(256, size - 256 * n)) for n in range(-(-size // 256))]

class Log:  # checkpoint, entries and tiles of one log
    at = "keys"  # what is looked at, for whoever reads a refusal

    def __init__(self, folder, vkey, witnesses=()):
        self.folder, self.origin, self.keys = folder, vkey.split("+")[0], {}
        for name, hashed, key in (text.split("+", 2) for text in (vkey, *witnesses)):
            self.keys[name, bytes.fromhex(hashed)] = b64decode(key)
            need(sha256(name.encode(), b"\n", b64decode(key))[:4].hex() == hashed, f"key of {name}")
        self.size, self.root, self.cosigned = self.checkpoint(self.read("checkpoint"), strangers=False)
        self.entries = [one for n, width in widths(self.size) for one in entries(self.tile("tile/entries/", n, width))[:width]]
        level, hashes = 0, [leaf_hash(entry) for entry in self.entries]
        self.hashes = hashes
        need(roots(hashes, {self.size}) == {self.size: self.root}, "the entries do not lead to the signed root")
        while hashes:
            for n, width in widths(len(hashes)):
                tile = self.tile(f"tile/{level}/", n, width)
                need(tile[: 32 * width] == b"".join(hashes[256 * n :][:width]), "is not what the entries give")
            whole = range(0, len(hashes) - 255, 256)
            level, hashes = level + 1, [roots(hashes[at : at + 256], {256})[256] for at in whole]

    def has(self, name): return os.path.exists(os.path.join(self.folder, name))

    def read(self, name):
        Log.at = os.path.join(self.folder, name)
        with open(os.path.join(self.folder, name), "rb") as file: return file.read()

    def tile(self, prefix, n, width):  # or a wider one, of which it is the beginning
        name = prefix + numbered(n)
        names = [f"{name}.p/{w}" for w in range(width, 256)] + [name]
        return self.read(next(filter(self.has, names), names[0]))

    def checkpoint(self, note, strangers):  # size, root, who has cosigned it
        text, _, lines = note.decode().rpartition("\n\n")
        origin, size, root = text.split("\n")
        text, signed, cosigned = text + "\n", False, set()
        need(origin == self.origin and text == f"{origin}\n{int(size)}\n{root}\n", "is no checkpoint of this log")
        for dash, name, base64 in (line.split(" ") for line in lines.removesuffix("\n").split("\n")):
            raw = b64decode(base64, validate=True)
            need(dash == "\u2014" and b64encode(raw).decode() == base64, "a signature line")
            need(strangers or (name, raw[:4]) in self.keys, f"is signed by a key that was not given: {name}")
            kind, key = self.keys.get((name, raw[:4]), b"\0")[0], self.keys.get((name, raw[:4]), b"\0")[1:]
            if kind == 1:
                signed = Ed25519PublicKey.from_public_bytes(key).verify(raw[4:], text.encode()) is None
            if kind == 4:
                said = b"cosignature/v1\ntime %d\n%s" % (number(raw[4:12]), text.encode())
                Ed25519PublicKey.from_public_bytes(key).verify(raw[12:], said)
                cosigned.add(name)
        need(signed, "is not signed by the log")
        return int(size), b64decode(root), cosigned

def verify_root(log, quorum):
    log.epochs = []  # when it ended, its slots
    for n, width in widths(log.size):
        data = log.read("slots/" + numbered(n))
        records = [r[4:] for r in cut(data, lambda at: 4 + 32 * number(data[at : at + 4]))]
        for entry, record in zip(log.entries[256 * n :][:width], records[:width], strict=True):
            Log.at = f"{log.origin}: slots/{numbered(n)}, epoch {len(log.epochs)}"
            slots, time = cut(record, lambda _: 32), number(entry[9:17])
            need(len(entry) == 117 and entry[0] == 1 and number(entry[1:9]) == len(log.epochs), "is not that epoch's entry")
            need(not log.epochs or log.epochs[-1][0] <= time, "its time goes back")
            need(number(entry[81:85]) == len(slots), "has another number of slots")
            need(entry[85:] == roots(list(map(leaf_hash, slots)), {len(slots)})[len(slots)], "do not lead to the entry's root")
            log.epochs.append((time, slots))
    heads = []
    while log.has(name := "cosigned/" + numbered(len(heads) // 256)) and len(heads) % 256 == 0:
        heads += [log.checkpoint(note, strangers=True) for note in entries(log.read(name))]
    Log.at, earlier = f"{log.origin}: cosigned", roots(log.hashes, {size for size, _, _ in heads})
    need(all(earlier[size] == root for size, root, _ in heads), "an earlier checkpoint was of another log")
    attested = max(s for s, _, who in [(0, 0, log.keys), *heads, (log.size, log.root, log.cosigned)] if len(who) >= quorum)
    need(attested > 0, "no quorum of witnesses has cosigned anything")
    first, last = (datetime.fromtimestamp(log.epochs[at][0] / 1000, timezone.utc) for at in (0, -1))
    print(f"{log.origin}: {log.size} epochs, {first:%F %T} to {last:%F %T} UTC, {attested} of them seen by a quorum of {quorum}")

def verify_sub_log(log, root, agency, members):
    gone, erased, last, first, size, key, before, right = set(), set(), 0, 0, 0, bytes(32), 0, 0
    for n, width in widths(log.size):
        keys, sealed = cut(log.read("keys/" + numbered(n)), lambda _: 32), entries(log.read("openings/" + numbered(n)))
        for i, leaf in enumerate(log.entries[256 * n :][:width], 256 * n):
            Log.at, last, before = f"{log.origin}: openings/{numbered(n)}, entry {i}", number(leaf[2:10]), last
            need(len(leaf) == 58 and leaf[0] == 1 and before <= last, "is no leaf, or its time goes back")
            if not any(keys[i % 256]): gone.add(i); continue
            plain = AESGCM(keys[i % 256]).decrypt(bytes(12), sealed[i % 256], leaf)  # salt, event
            event = fields(plain[32:])
            said = bytes([1, event[1]]) + event[3].to_bytes(8, "big") + sha256(b"lintas/v1/event-id\0", plain)[:16]
            need(leaf == said + sha256(b"lintas/audit-event/v1\0", plain), "is another event than the leaf's")
            need(event[2].decode() == agency, "is of another agency")
            if event[1] == 16: erased.update(range(event.get(13, 0), event.get(13, 0) + event[14]))
    need(gone <= erased, f"no ERASED event names the keys that are gone: {sorted(gone - erased)[:9]}")
    sizes = {e: number(s) for e, s in pairs(log.read("sizes") if log.has("sizes") else b"", 16).items()}
    slot_keys = pairs(log.read("slot-keys") if log.has("slot-keys") else b"", 40)
    prefix, before = roots(log.hashes, {0} | {s for e, s in sizes.items() if e < len(root.epochs)}), 0
    for epoch, (time, slots) in enumerate(root.epochs):
        Log.at, first, size, key = f"{log.origin}: sizes, slot-keys, epoch {epoch}", size, sizes.get(epoch, size), slot_keys.get(epoch, key)
        need(first <= size and all(before <= number(leaf[2:10]) <= time for leaf in log.entries[first:size]), "a time is not within it")
        need(len(slots) in members, f"give a directory of the time when the region had {len(slots)} members")
        before, place = time, members[len(slots)].get(agency)  # nobody ever leaves a roster: their number tells the members
        if place is None: need(size == 0, "the agency was no member"); continue
        salt = hmac.digest(key, root.origin.encode() + epoch.to_bytes(8, "big"), "sha256")
        slot = sha256(b"lintas/v1/slot\0", salt, place.to_bytes(4, "big"), size.to_bytes(8, "big"), prefix[size])
        need(slots[place] == slot, "the root log has another state of this sub-log")
        right += 1
    print(f"{log.origin}: {log.size} entries, {log.size - len(gone)} opened, {len(gone)} erased; its slot is right in {right} epochs")

def main(folder, *files):
    try:
        regions = [json.load(open(file)) for file in files]
        places = [{member["agency"]: place for place, member in enumerate(region["members"])} for region in regions]
        keys = {one["origin"]: one["vkey"] for broker in regions[0]["brokers"] for one in [broker["log"], *broker["sub_logs"]]}
        with open(os.path.join(folder, "checkpoint")) as file: origin = file.readline().strip()
        witnesses = [member["witness_vkey"] for member in regions[0]["members"] if "witness_vkey" in member]
        need(origin in keys, f"that directory names no log {origin!r}")
        root = Log(folder, keys[origin], witnesses)
        verify_root(root, regions[0]["quorum"])
        for agency in filter(lambda agency: root.has(f"{agency}/checkpoint"), places[0]):
            verify_sub_log(Log(os.path.join(folder, agency), keys[f"{origin}/{agency}"]), root, agency, {len(place): place for place in places})
    except Exception as problem:  # a wrong signature or tag has a name, but no text
        sys.exit(f"refused: {Log.at}: {type(problem).__name__} {problem}")

main(*sys.argv[1:]) if len(sys.argv) > 2 else sys.exit("usage: verify_log.py FOLDER REGION.json [EARLIER.json ...]")
