// Checks the seal of a Pulse log from its HTTP API alone, with the packages of Go's checksum database:
// the checkpoint's signature, its root from all entries, inclusion by the tiles and by the API's proofs,
// and consistency with older checkpoints.
//
//	check URL VERIFIER-KEY [FILE-OF-OLDER-CHECKPOINTS]
//
// URL is the root of the API. A service token is read from PULSE_SERVICE_TOKEN.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type api string // the root of the API, and a reader of its tiles

func (a api) get(path string) []byte {
	request := must(http.NewRequest("GET", string(a)+"/internal/"+path, nil))
	if token := os.Getenv("PULSE_SERVICE_TOKEN"); token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer := must(http.DefaultClient.Do(request))
	defer answer.Body.Close()
	body := must(io.ReadAll(answer.Body))
	require(answer.StatusCode == 200, path, answer.Status, string(body))
	return body
}

func (a api) Height() int { return 8 }

func (a api) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		data = append(data, a.get("log/tile/"+strings.TrimPrefix(tile.Path(), "tile/8/")))
	}
	return data, nil
}

func (a api) SaveTiles([]tlog.Tile, [][]byte) {}

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
func open(message string, key note.Verifier) (tree tlog.Tree) {
	opened := must(note.Open([]byte(message), note.VerifierList(key)))
	lines := strings.Split(opened.Text, "\n")
	require(len(lines) > 3 && lines[0] == key.Name(), "a checkpoint of another log:", lines[0])
	must(fmt.Sscan(lines[1], &tree.N))
	tree.Hash = must(tlog.ParseHash(lines[2]))
	return tree
}

func main() {
	pulse, key := api(os.Args[1]), must(note.NewVerifier(os.Args[2]))
	var older []string // read first: the log may grow meanwhile
	if len(os.Args) > 3 {
		older = strings.Split(strings.Trim(string(must(os.ReadFile(os.Args[3]))), "\n"), "\n\n")
	}
	tree := open(string(pulse.get("log/checkpoint")), key)
	tiles := tlog.TileHashReader(tree, pulse) // checks each tile against the root

	var hashes []tlog.Hash // of all leaves and full subtrees, from the entries
	var positions []int64
	fromEntries := tlog.HashReaderFunc(func(indexes []int64) (found []tlog.Hash, err error) {
		for _, index := range indexes {
			found = append(found, hashes[index])
		}
		return found, nil
	})
	for n := int64(0); n < tree.N; {
		tile := tlog.Tile{H: 8, N: n / 256, W: 256}
		if tree.N-n < 256 {
			tile.W = int(tree.N - n)
		}
		path := "log/tile/entries/" + strings.TrimPrefix(tile.Path(), "tile/8/0/")
		for bundle := pulse.get(path); len(bundle) > 0; n++ {
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			var event struct{ Position int64 }
			require(json.Unmarshal(bundle[2:end], &event) == nil, "entry", n, "is not JSON")
			positions = append(positions, event.Position)
			hashes = append(hashes, must(tlog.StoredHashes(n, bundle[2:end], fromEntries))...)
			bundle = bundle[end:]
		}
	}
	root := must(tlog.TreeHash(tree.N, fromEntries))
	require(root == tree.Hash, "the entries do not have the checkpoint's root, but", root)

	for n := int64(0); n < tree.N; n += 1 + tree.N/100 { // a hundred of them
		leaf := hashes[tlog.StoredHashIndex(0, n)]
		proof := must(tlog.ProveRecord(tree.N, n, tiles))
		require(tlog.CheckRecord(proof, tree.N, tree.Hash, n, leaf) == nil, "the tiles lack entry", n)
		text, checkpoint, _ := strings.Cut(string(pulse.get(fmt.Sprintf("events/%d/proof", positions[n]))), "\n\n")
		proof = nil
		for _, line := range strings.Split(text, "\n")[2:] {
			proof = append(proof, must(tlog.ParseHash(line)))
		}
		proven := open(checkpoint, key)
		require(tlog.CheckRecord(proof, proven.N, proven.Hash, n, leaf) == nil, "a wrong proof of entry", n)
	}

	checked := 0
	for i := 1; i < len(older); i++ {
		if !strings.HasPrefix(older[i], "— "+key.Name()+" ") {
			continue
		}
		before := open(older[i-1]+"\n\n"+older[i]+"\n", key)
		require(before.N <= tree.N, "the log had", before.N, "entries, and now has", tree.N)
		proof := must(tlog.ProveTree(tree.N, before.N, tiles))
		err := tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash)
		require(err == nil, "the log does not extend the checkpoint of", before.N, "entries")
		checked++
	}
	fmt.Printf("%s: %d entries and %d older checkpoints are right\n", key.Name(), tree.N, checked)
}
