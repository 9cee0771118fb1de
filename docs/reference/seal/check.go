// Checks the seal of a Pulse log from its HTTP API alone, with the packages of Go's checksum database:
// signature, root from all entries, tiles, inclusion proofs, consistency with older checkpoints.
//
//	PULSE_SERVICE_TOKEN=... check URL-OF-THE-API VERIFIER-KEY [FILE-OF-OLDER-CHECKPOINTS]
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func get(path string) string {
	path = strings.NewReplacer("tile/8/data/", "log/tile/entries/", "tile/8/", "log/tile/").Replace(path)
	request := must(http.NewRequest("GET", os.Args[1]+"/internal/"+path, nil))
	request.Header.Set("Authorization", "Bearer "+os.Getenv("PULSE_SERVICE_TOKEN"))
	answer := must(http.DefaultClient.Do(request))
	body := string(must(io.ReadAll(answer.Body)))
	require(answer.StatusCode == 200, path, answer.Status, body)
	return body
}

func must[T any](value T, err error) T {
	require(err == nil, err)
	return value
}

func require(isRight bool, fault ...any) {
	if !isRight {
		log.Fatalln(fault...)
	}
}

// open returns the tree of a checkpoint, which the key must have signed for its own log.
func open(checkpoint string, key note.Verifier) tlog.Tree {
	opened := must(note.Open([]byte(checkpoint), note.VerifierList(key)))
	origin, tree, _ := strings.Cut(opened.Text, "\n")
	require(origin == key.Name(), "a checkpoint of another log:", origin)
	return must(tlog.ParseTree([]byte("go.sum database tree\n" + tree)))
}

type stored []tlog.Hash // of all leaves and full subtrees, in the order of package tlog

func (s stored) ReadHashes(indexes []int64) (found []tlog.Hash, err error) {
	for _, index := range indexes {
		found = append(found, s[index])
	}
	return found, nil
}

func main() {
	key, older := must(note.NewVerifier(os.Args[2])), []string{}
	if len(os.Args) > 3 { // read first: the log may grow meanwhile
		older = strings.Split(strings.Trim(string(must(os.ReadFile(os.Args[3]))), "\n"), "\n\n")
	}
	tree := open(get("log/checkpoint"), key)

	var hashes stored // from the entries
	var positions []int64
	for n := int64(0); n < tree.N; n += 256 {
		tile := tlog.Tile{H: 8, L: -1, N: n / 256, W: 256}
		if tree.N-n < 256 {
			tile.W = int(tree.N - n)
		}
		for bundle, position := []byte(get(tile.Path())), int64(0); len(bundle) > 0; {
			entry := bundle[2 : 2+binary.BigEndian.Uint16(bundle)]
			must(fmt.Sscanf(string(entry), `{"position":%d,`, &position))
			hashes = append(hashes, must(tlog.StoredHashes(int64(len(positions)), entry, hashes))...)
			positions = append(positions, position)
			bundle = bundle[2+len(entry):]
		}
	}
	require(int64(len(positions)) == tree.N, "there are", len(positions), "entries of", tree.N)
	root := must(tlog.TreeHash(tree.N, hashes))
	require(root == tree.Hash, "the entries do not have the checkpoint's root; their root is", root)
	for _, tile := range tlog.NewTiles(8, 0, tree.N) {
		require(string(must(tlog.ReadTileData(tile, hashes))) == get(tile.Path()), "a wrong", tile.Path())
	}

	for n := int64(0); n < tree.N; n += 1 + tree.N/100 { // a hundred entries
		text, checkpoint, _ := strings.Cut(get(fmt.Sprintf("events/%d/proof", positions[n])), "\n\n")
		proof, proven := tlog.RecordProof{}, open(checkpoint, key)
		for _, line := range strings.Split(text, "\n")[2:] {
			proof = append(proof, must(tlog.ParseHash(line)))
		}
		fault := tlog.CheckRecord(proof, proven.N, proven.Hash, n, hashes[tlog.StoredHashIndex(0, n)])
		require(fault == nil, "the proof of entry", n, "is wrong:", fault)
	}

	checked, skipped := 0, 0
	for i := 1; i < len(older); i++ {
		if strings.HasPrefix(older[i], "— "+key.Name()+" ") { // signatures; the text is before them
			before := open(older[i-1]+"\n\n"+older[i]+"\n", key)
			extends := before.N <= tree.N && must(tlog.TreeHash(before.N, hashes)) == before.Hash
			require(extends, "the log does not extend the checkpoint of", before.N, "entries")
			checked++
		} else if strings.HasPrefix(older[i], "— ") {
			skipped++
		}
	}
	fmt.Printf("%s: %d entries and %d older checkpoints are right\n", key.Name(), tree.N, checked)
	if skipped > 0 { // signed before a rotation of the key or a fork of the log
		fmt.Printf("%d older checkpoints of other keys were not checked\n", skipped)
	}
}
