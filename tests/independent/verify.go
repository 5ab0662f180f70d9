// Verifies the folder of an audit log of Lintas with what others have written: golang.org/x/mod/sumdb, the code that
// checks Go's own checksum database. It shares no code with Lintas, and was written from docs/AUDIT.md.
//
//	verify FOLDER LOG-VKEY QUORUM [WITNESS-VKEY...]
//
// The vkeys are those that `lintas region inspect directory.bin` gives; the key name of the log's is its origin. QUORUM is
// how many of those witnesses must have cosigned; 0 for a sub-log. It checks
//
//   - the signature of the checkpoint and every cosignature, none of which may be by anybody else (of earlier
//     checkpoints some may be: witnesses come and go);
//   - that each tile and each bundle is, byte for byte, what the entries give;
//   - a proof of inclusion of every entry, from the tiles, under the checkpoint's root;
//   - a proof of consistency with every checkpoint under `cosigned/`, and with every earlier size of a small log.
//
// It ends with 0, or with 1 and one line that says what is wrong.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height = 8           // of a tile
	width  = 1 << height // hashes of a full tile, entries of a full bundle
	// Up to this size, consistency is proved with every earlier size; above it, with those around powers of two.
	everySize = 2048
)

func main() {
	if len(os.Args) < 4 {
		fail(errors.New("usage: verify FOLDER LOG-VKEY QUORUM [WITNESS-VKEY...]"))
	}
	log, err := open(os.Args[1], os.Args[2], os.Args[3], os.Args[4:])
	if err == nil {
		err = log.verify()
	}
	if err != nil {
		fail(err)
	}
	fmt.Printf("%s: size %d, %d earlier checkpoints, %d cosignatures: sound\n",
		log.origin, log.tree.N, log.earlier, log.cosigned)
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "%s\n", strings.ReplaceAll(err.Error(), "\n", " "))
	os.Exit(1)
}

// A log is a folder, and what is known of it.
type log struct {
	folder   string
	origin   string
	known    note.Verifiers
	quorum   int
	tree     tlog.Tree
	cosigned int
	earlier  int
	// strangers is the number of signatures by unknown keys in the note that was read last.
	strangers int
	// stored are the hashes of the tree of the entries, as package tlog numbers them.
	stored []tlog.Hash
	// leaves are the hashes of the entries.
	leaves []tlog.Hash
}

func open(folder, vkey, quorum string, witnesses []string) (*log, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("key of the log: %v", err)
	}
	all := []note.Verifier{verifier}
	for _, vkey := range witnesses {
		witness, err := newWitness(vkey)
		if err != nil {
			return nil, fmt.Errorf("key of a witness: %v", err)
		}
		all = append(all, witness)
	}
	need, err := strconv.Atoi(quorum)
	if err != nil || need < 0 || need > len(witnesses) {
		return nil, errors.New("the quorum must be a number from 0 to that of the witnesses")
	}
	log := &log{folder: folder, origin: verifier.Name(), known: note.VerifierList(all...), quorum: need}
	text, err := log.read("checkpoint")
	if err != nil {
		return nil, err
	}
	log.tree, log.cosigned, err = log.checkpoint(text)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %v", err)
	}
	if log.strangers > 0 {
		return nil, errors.New("checkpoint: signed by a key that was not given")
	}
	if log.cosigned < need {
		return nil, fmt.Errorf("checkpoint: %d witnesses have cosigned it, %d must", log.cosigned, need)
	}
	return log, nil
}

// numbered reads a tile or bundle, or the full one that has taken its place; whether it is that one.
func (l *log) numbered(prefix string, n, wide int64) (path string, data []byte, full bool, err error) {
	path = prefix + numbered(n, wide)
	data, err = l.read(path)
	if whole := prefix + numbered(n, width); wide < width && errors.Is(err, fs.ErrNotExist) {
		if data, err := l.read(whole); err == nil {
			return whole, data, true, nil
		}
	}
	return path, data, false, err
}

func (l *log) read(path string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(l.folder, filepath.FromSlash(path)))
	if err != nil {
		return nil, fmt.Errorf("%s: cannot be read: %w", path, err)
	}
	return data, nil
}

// checkpoint opens a signed note: the tree, and how many witnesses have cosigned it.
func (l *log) checkpoint(text []byte) (tree tlog.Tree, cosigned int, err error) {
	opened, err := note.Open(text, l.known)
	if err != nil {
		return tree, 0, err
	}
	l.strangers = len(opened.UnverifiedSigs)
	signed := false
	for _, by := range opened.Sigs {
		// Package note overlooks bits after the end of the last byte.
		if _, err := base64.StdEncoding.Strict().DecodeString(by.Base64); err != nil {
			return tree, 0, fmt.Errorf("signature of %q: %v", by.Name, err)
		}
		if by.Name == l.origin {
			signed = true
		} else {
			cosigned++
		}
	}
	if !signed {
		return tree, 0, errors.New("not signed by the log")
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != l.origin {
		return tree, 0, errors.New("of another log, or not origin, size and root")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return tree, 0, fmt.Errorf("size %q", lines[1])
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil || root.String() != lines[2] {
		return tree, 0, fmt.Errorf("root %q", lines[2])
	}
	return tlog.Tree{N: size, Hash: root}, cosigned, nil
}

func (l *log) verify() error {
	if l.tree.N == 0 {
		if l.tree.Hash != tlog.Hash(sha256.Sum256(nil)) {
			return errors.New("checkpoint: the root of the empty tree is another one")
		}
		return nil
	}
	if err := l.entries(); err != nil {
		return err
	}
	if root, err := tlog.TreeHash(l.tree.N, tlog.HashReaderFunc(l.hashes)); err != nil || root != l.tree.Hash {
		return fmt.Errorf("the entries do not give the root of the checkpoint (%v)", err)
	}
	if err := l.tiles(); err != nil {
		return err
	}
	if err := l.older(); err != nil {
		return err
	}
	published := &tiles{log: l, files: map[tlog.Tile][]byte{}, known: map[int64]tlog.Hash{}}
	reader := tlog.HashReaderFunc(published.hashes)
	if err := l.inclusion(reader); err != nil {
		return err
	}
	return l.consistency(reader)
}

// hashes gives hashes of the tree of the entries.
func (l *log) hashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, 0, len(indexes))
	for _, index := range indexes {
		if index < 0 || index >= int64(len(l.stored)) {
			return nil, fmt.Errorf("the tree has no hash %d", index)
		}
		found = append(found, l.stored[index])
	}
	return found, nil
}

// entries reads every bundle and makes the tree of what is in them.
func (l *log) entries() error {
	for n := int64(0); n*width < l.tree.N; n++ {
		wide := min(width, l.tree.N-n*width)
		path, data, full, err := l.numbered("tile/entries/", n, wide)
		if err != nil {
			return err
		}
		for i := int64(0); i < wide; i++ {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				return fmt.Errorf("%s: it ends inside entry %d", path, n*width+i)
			}
			length := int(binary.BigEndian.Uint16(data))
			if err := l.push(data[2 : 2+length]); err != nil {
				return fmt.Errorf("%s: %v", path, err)
			}
			data = data[2+length:]
		}
		if len(data) > 0 && !full {
			return fmt.Errorf("%s: %d bytes after the last entry", path, len(data))
		}
	}
	return nil
}

func (l *log) push(entry []byte) error {
	leaf := tlog.RecordHash(entry)
	hashes, err := tlog.StoredHashesForRecordHash(int64(len(l.leaves)), leaf, tlog.HashReaderFunc(l.hashes))
	l.leaves, l.stored = append(l.leaves, leaf), append(l.stored, hashes...)
	return err
}

// tiles compares every tile of the tree with what the entries give.
func (l *log) tiles() error {
	for level := 0; l.tree.N>>(height*level) > 0; level++ {
		count := l.tree.N >> (height * level)
		for n := int64(0); n*width < count; n++ {
			tile := tlog.Tile{H: height, L: level, N: n, W: int(min(width, count-n*width))}
			path, have, full, err := l.tile(tile)
			if err != nil {
				return err
			}
			want, err := tlog.ReadTileData(tile, tlog.HashReaderFunc(l.hashes))
			if err != nil || !bytes.HasPrefix(have, want) || (len(have) > len(want) && !full) {
				return fmt.Errorf("%s: not what the entries give (%v)", path, err)
			}
		}
	}
	return nil
}

// older compares what is still there of smaller trees: partial tiles and bundles, which must be the beginning of those
// in their place.
func (l *log) older() error {
	return filepath.WalkDir(filepath.Join(l.folder, "tile"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(filepath.Dir(path)) != ".p" {
			return err
		}
		wide, err := strconv.ParseInt(entry.Name(), 10, 64)
		if err != nil {
			return nil // A file of somebody else.
		}
		have, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		whole, err := l.whole(strings.TrimSuffix(filepath.Dir(path), ".p"), wide)
		if err != nil || !bytes.HasPrefix(whole, have) || len(have) == 0 {
			return fmt.Errorf("%s: not the beginning of what stands in its place now (%v)", path, err)
		}
		return nil
	})
}

// whole reads the widest tile or bundle of a number: the full one, or the widest partial one.
func (l *log) whole(path string, wide int64) ([]byte, error) {
	if data, err := os.ReadFile(path); err == nil {
		return data, nil
	}
	partial, err := os.ReadDir(path + ".p")
	for _, other := range partial {
		if width, err := strconv.ParseInt(other.Name(), 10, 64); err == nil {
			wide = max(wide, width)
		}
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(path+".p", strconv.FormatInt(wide, 10)))
}

// inclusion proves every entry under the root, from the tiles.
func (l *log) inclusion(published tlog.HashReader) error {
	for n, leaf := range l.leaves {
		proof, err := tlog.ProveRecord(l.tree.N, int64(n), published)
		if err == nil {
			err = tlog.CheckRecord(proof, l.tree.N, l.tree.Hash, int64(n), leaf)
		}
		if err != nil {
			return fmt.Errorf("entry %d is not included: %v", n, err)
		}
	}
	return nil
}

// consistency proves that the tree goes on from each earlier one.
func (l *log) consistency(published tlog.HashReader) error {
	check := func(old tlog.Tree) error {
		if old.N == 0 || old.N > l.tree.N {
			return fmt.Errorf("size %d, beside %d of the checkpoint", old.N, l.tree.N)
		}
		proof, err := tlog.ProveTree(l.tree.N, old.N, published)
		if err == nil {
			err = tlog.CheckTree(proof, l.tree.N, l.tree.Hash, old.N, old.Hash)
		}
		return err
	}
	for size := int64(1); size <= l.tree.N; size++ {
		if size > everySize && size&(size-1) != 0 && size&(size+1) != 0 {
			continue
		}
		root, err := tlog.TreeHash(size, tlog.HashReaderFunc(l.hashes))
		if err == nil {
			err = check(tlog.Tree{N: size, Hash: root})
		}
		if err != nil {
			return fmt.Errorf("the log does not go on from its first %d entries: %v", size, err)
		}
	}
	for n := int64(0); ; n++ {
		path := "cosigned/" + numbered(n, width)
		if _, err := os.Stat(filepath.Join(l.folder, filepath.FromSlash(path))); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		data, err := l.read(path)
		for err == nil && len(data) > 0 {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				return fmt.Errorf("%s: it ends inside a checkpoint", path)
			}
			length := int(binary.BigEndian.Uint16(data))
			var old tlog.Tree
			if old, _, err = l.checkpoint(data[2 : 2+length]); err == nil {
				err = check(old)
			}
			if err != nil {
				return fmt.Errorf("%s: checkpoint %d: %v", path, l.earlier, err)
			}
			data = data[2+length:]
			l.earlier++
		}
		if err != nil {
			return err
		}
	}
}

// Tiles gives hashes of the published tiles.
type tiles struct {
	log   *log
	files map[tlog.Tile][]byte
	known map[int64]tlog.Hash
}

func (t *tiles) hashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, 0, len(indexes))
	for _, index := range indexes {
		hash, ok := t.known[index]
		if !ok {
			tile := tlog.TileForIndex(height, index)
			count := t.log.tree.N>>(height*tile.L) - tile.N*width
			tile.W = int(min(width, count))
			data, ok := t.files[tile]
			if !ok {
				var err error
				if _, data, _, err = t.log.tile(tile); err != nil {
					return nil, err
				}
				t.files[tile] = data
			}
			var err error
			if hash, err = tlog.HashFromTile(tile, data, index); err != nil {
				return nil, err
			}
			t.known[index] = hash
		}
		found = append(found, hash)
	}
	return found, nil
}

// tile reads one. Its path is as in C2SP tlog-tiles: without the height, which is 8.
func (l *log) tile(tile tlog.Tile) (path string, data []byte, full bool, err error) {
	return l.numbered(fmt.Sprintf("tile/%d/", tile.L), tile.N, int64(tile.W))
}

// numbered writes 1234067 as x001/x234/067, and a width that is not full behind it.
func numbered(n, wide int64) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	if wide < width {
		path += fmt.Sprintf(".p/%d", wide)
	}
	return path
}

func min(a, b int64) int64 {
	if a < b {
		return a
	}
	return b
}

func max(a, b int64) int64 {
	return -min(-a, -b)
}

// A witness verifies cosignatures: C2SP tlog-cosignature, cosignature/v1.
type witness struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func newWitness(vkey string) (*witness, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not NAME+HASH+KEY")
	}
	key, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return nil, fmt.Errorf("%s: not a key of a witness", parts[0])
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if parts[1] != fmt.Sprintf("%x", sum[:4]) {
		return nil, fmt.Errorf("%s: its hash is another one", parts[0])
	}
	return &witness{parts[0], binary.BigEndian.Uint32(sum[:]), ed25519.PublicKey(key[1:])}, nil
}

func (w *witness) Name() string    { return w.name }
func (w *witness) KeyHash() uint32 { return w.hash }

func (w *witness) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	text := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), msg)
	return ed25519.Verify(w.key, []byte(text), sig[8:])
}
