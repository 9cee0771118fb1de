// Checks an evidence pack of Pulse with the packages of Go's checksum database: the hashes of its
// members, the checkpoint's signature, the inclusion of each event, that a period is complete, and
// consistency with the earlier checkpoints of the same key in the pack. It needs no network and no
// code of Pulse. It does not derive the schedules, fold the events or render the summary again, and
// does not check the headers of the archive and the form and order of its members.
//
//	check_pack FILE VERIFIER-KEY
//
// Exit codes: 0 everything is right. 1 something is wrong. 5 the pack is not proven complete to its
// end, because it has no entry after the period.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type pack map[string]*io.SectionReader // the members, and a reader of the tiles among them

func (p pack) read(name string) []byte {
	require(p[name] != nil, name, "is missing")
	must(p[name].Seek(0, io.SeekStart))
	return must(io.ReadAll(p[name]))
}

func (p pack) Height() int { return 8 }

func (p pack) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range tiles {
		data = append(data, p.read("tile/"+strings.TrimPrefix(tile.Path(), "tile/8/")))
	}
	return data, nil
}

func (p pack) SaveTiles([]tlog.Tile, [][]byte) {}

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

// A line of the events; a neighbour of a period has no state.
type line struct {
	Index       int64
	Entry       json.RawMessage
	State       *string
	StateBase64 []byte `json:"state_base64"`
}

type entry struct {
	Recorded time.Time `json:"recorded_at"`
	OrderID  string    `json:"order_id"`
	State    string    `json:"state_sha256"`
}

// lines calls pass with the lines of a member, at most a thousand at a time.
func (p pack) lines(name string, pass func([]line)) {
	must(p[name].Seek(0, io.SeekStart))
	for reader, isEnd := bufio.NewReader(p[name]), false; !isEnd; {
		var some []line
		for len(some) < 1000 {
			text, err := reader.ReadBytes('\n')
			if isEnd = err == io.EOF; isEnd {
				require(len(text) == 0, "the last line of", name, "is cut short")
				break
			}
			var one line
			require(err == nil && json.Unmarshal(text, &one) == nil, "a line of", name, "is not JSON")
			some = append(some, one)
		}
		if len(some) > 0 {
			pass(some)
		}
	}
}

func main() {
	file, key := must(os.Open(os.Args[1])), must(note.NewVerifier(os.Args[2]))
	members, archive := pack{}, tar.NewReader(file)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		require(err == nil && header.Typeflag == tar.TypeReg && members[header.Name] == nil, "a wrong member", err)
		members[header.Name] = io.NewSectionReader(file, must(file.Seek(0, io.SeekCurrent)), header.Size)
	}
	at := must(file.Seek(0, io.SeekCurrent))
	require(at == must(file.Seek(0, io.SeekEnd)), "the file has something after the end of the archive")
	var export struct {
		ContentHash string `json:"content_hash"`
	}
	require(json.Unmarshal(members.read("export.json"), &export) == nil, "export.json is not JSON")
	content := fmt.Sprintf("%x", sha256.Sum256(members.read("content.sha256")))
	require(export.ContentHash == content, "export.json has another content hash:", export.ContentHash)
	named := bufio.NewScanner(bytes.NewReader(append(members.read("content.sha256"), members.read("manifest.sha256")...)))
	count := 1 // the manifest does not name itself
	for ; named.Scan(); count++ {
		want, name, _ := strings.Cut(named.Text(), "  ")
		require(members[name] != nil, name, "is missing")
		digest := sha256.New()
		must(members[name].Seek(0, io.SeekStart))
		must(io.Copy(digest, members[name]))
		require(fmt.Sprintf("%x", digest.Sum(nil)) == want, name, "was changed")
	}
	require(count == len(members), len(members), "members, but the manifests name", count-1)

	tree := open(string(members.read("checkpoint")), key)
	tiles := tlog.TileHashReader(tree, members) // checks each tile against the root
	var selection struct {
		OrderID string    `json:"order_id"`
		From    time.Time `json:"recorded_from"`
		Before  time.Time `json:"recorded_before"`
		First   int64     `json:"first_index"`
		Last    int64     `json:"last_index"`
	}
	require(json.Unmarshal(members.read("selection.json"), &selection) == nil, "selection.json is not JSON")
	prove := func(lines []line) (entries []entry) { // that the tree has these entries
		var indexes []int64
		for _, one := range lines {
			indexes = append(indexes, tlog.StoredHashIndex(0, one.Index))
		}
		hashes := must(tiles.ReadHashes(indexes))
		for i, one := range lines {
			require(tlog.RecordHash(one.Entry) == hashes[i], "entry", one.Index, "is not in the tree")
			var fields entry
			require(json.Unmarshal(one.Entry, &fields) == nil, "entry", one.Index, "is not JSON")
			entries = append(entries, fields)
		}
		return entries
	}
	events, within := 0, map[int64]bool{}
	for part := 1; members[fmt.Sprintf("events/%04d.ndjson", part)] != nil; part++ {
		members.lines(fmt.Sprintf("events/%04d.ndjson", part), func(lines []line) {
			for i, fields := range prove(lines) {
				state := lines[i].StateBase64
				if lines[i].State != nil {
					state = []byte(*lines[i].State)
				}
				hash := fmt.Sprintf("%x", sha256.Sum256(state))
				require(hash == fields.State, "the state of entry", lines[i].Index, "was changed")
				require(selection.OrderID == "" || selection.OrderID == fields.OrderID, "an event of another order")
				require(lines[i].Index <= selection.Last, "an event after the selection")
				if lines[i].Index < selection.First {
					require(selection.OrderID == "", "an event before the selection")
					continue
				}
				require(!within[lines[i].Index], "entry", lines[i].Index, "is there twice")
				within[lines[i].Index] = true
				if selection.OrderID == "" { // later entries may have earlier times, if the clock was set back
					early := lines[i].Index == selection.First && fields.Recorded.Before(selection.From)
					late := !fields.Recorded.Before(selection.Before)
					require(!early && !late, "entry", lines[i].Index, "was not recorded in the period")
				}
			}
			events += len(lines)
		})
	}
	require(within[selection.First] && within[selection.Last], "the first or last event is missing")
	isWhole := true // a pack of one order does not claim to be complete
	if selection.OrderID == "" {
		require(int64(len(within)) == selection.Last-selection.First+1, "the period lacks events")
		members.lines("neighbours.ndjson", func(lines []line) {
			for i, fields := range prove(lines) {
				require(lines[i].State == nil && lines[i].StateBase64 == nil, "an entry outside the period has a state")
				before := lines[i].Index == selection.First-1 && fields.Recorded.Before(selection.From)
				after := lines[i].Index == selection.Last+1 && !fields.Recorded.Before(selection.Before)
				require(before || after, "entry", lines[i].Index, "does not border on the period")
				within[lines[i].Index] = true
			}
		})
		require(selection.First == 0 || within[selection.First-1], "the entry before the period is missing")
		require(selection.Last+1 == tree.N || within[selection.Last+1], "the entry after the period is missing")
		isWhole = within[selection.Last+1]
	}

	var anchors []string
	require(json.Unmarshal(members.read("anchors.json"), &anchors) == nil, "anchors.json is not JSON")
	checked := 0
	for _, anchor := range anchors {
		_, err := note.Open([]byte(anchor), note.VerifierList(key))
		if _, isOther := err.(*note.UnverifiedNoteError); isOther {
			continue // another key of the log signed it
		}
		before := open(anchor, key)
		proof := must(tlog.ProveTree(tree.N, before.N, tiles))
		err = tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash)
		require(err == nil, "the log does not extend the checkpoint of", before.N, "entries")
		checked++
	}
	fmt.Printf("%s: %d events are in the tree of %d entries, and %d earlier checkpoints are right\n",
		key.Name(), events, tree.N, checked)
	if !isWhole {
		fmt.Println("not proven complete to its end: no entry after the period was sealed")
		os.Exit(5)
	}
}
