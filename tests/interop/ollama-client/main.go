// Pulls a model from a registry the way Ollama does, over real HTTP: the manifest, then for each blob a
// HEAD for its size, one GET that is only asked where the bytes are (and fails without a Location),
// parallel ranges that are written wherever the answer says so, and at last the digest.
//
//	ollama-client [-part BYTES] HOST:PORT/NAMESPACE/MODEL:TAG FOLDER
package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

const (
	partsMax   = 16
	partLeast  = 100_000_000
	partMost   = 1_000_000_000
	triesMax   = 6
	manifestOf = "application/vnd.docker.distribution.manifest.v2+json"
)

type layer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

type manifest struct {
	SchemaVersion int     `json:"schemaVersion"`
	MediaType     string  `json:"mediaType"`
	Config        layer   `json:"config"`
	Layers        []layer `json:"layers"`
}

type config struct {
	ModelFormat string `json:"model_format"`
	ModelFamily string `json:"model_family"`
	FileType    string `json:"file_type"`
}

type report struct {
	Parts  int               `json:"parts"`
	Config config            `json:"config"`
	Layers map[string]string `json:"layers"`
}

func main() {
	part := flag.Int64("part", partLeast, "bytes of a part at least")
	flag.Parse()
	if err := pull(flag.Arg(0), flag.Arg(1), *part); err != nil {
		fmt.Fprintln(os.Stderr, "ollama-client:", err)
		os.Exit(1)
	}
}

func pull(name, folder string, partLeast int64) error {
	host, rest, _ := strings.Cut(name, "/")
	repository, tag, tagged := strings.Cut(rest, ":")
	if !tagged {
		tag = "latest"
	}
	base := &url.URL{Scheme: "http", Host: host}
	base = base.JoinPath("v2", repository)
	answer, err := ask(http.DefaultClient, http.MethodGet, base.JoinPath("manifests", tag), manifestOf)
	if err != nil {
		return fmt.Errorf("pull model manifest: %w", err)
	}
	defer answer.Body.Close()
	var model manifest
	if err := json.NewDecoder(answer.Body).Decode(&model); err != nil {
		return err
	}
	told := report{Layers: map[string]string{}}
	for _, each := range append(model.Layers, model.Config) {
		path := filepath.Join(folder, strings.ReplaceAll(each.Digest, ":", "-"))
		parts, err := fetch(base.JoinPath("blobs", each.Digest), path, partLeast)
		if err != nil {
			return fmt.Errorf("%s: %w", each.Digest, err)
		}
		if err := check(path, each); err != nil {
			return err
		}
		told.Parts += parts
		told.Layers[each.MediaType] = path
	}
	text, err := os.ReadFile(told.Layers[model.Config.MediaType])
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &told.Config); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(told)
}

// ask is told of the status, as Ollama is: 404 is a file that does not exist, whatever it says.
func ask(client *http.Client, method string, where *url.URL, accept string) (*http.Response, error) {
	request, err := http.NewRequest(method, where.String(), nil)
	if err != nil {
		return nil, err
	}
	if accept != "" {
		request.Header.Set("Accept", accept)
	}
	request.Header.Set("User-Agent", fmt.Sprintf("ollama/0.33.0 (%s %s) Go/%s", runtime.GOARCH, runtime.GOOS, runtime.Version()))
	answer, err := client.Do(request)
	switch {
	case err != nil:
		return nil, err
	case answer.StatusCode == http.StatusNotFound:
		answer.Body.Close()
		return nil, os.ErrNotExist
	case answer.StatusCode >= http.StatusBadRequest:
		defer answer.Body.Close()
		text, _ := io.ReadAll(answer.Body)
		return nil, fmt.Errorf("%d: %s", answer.StatusCode, text)
	}
	return answer, nil
}

// where the bytes are: redirects are followed as long as they stay on the host.
func place(where *url.URL) (*url.URL, error) {
	client := &http.Client{CheckRedirect: func(next *http.Request, _ []*http.Request) error {
		if next.URL.Hostname() == where.Hostname() {
			return nil
		}
		return http.ErrUseLastResponse
	}}
	answer, err := ask(client, http.MethodGet, where, "")
	if err != nil {
		return nil, err
	}
	// Not read: the connection is closed with the body on its way.
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusTemporaryRedirect && answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("unexpected status code %d", answer.StatusCode)
	}
	return answer.Location()
}

func fetch(where *url.URL, path string, partLeast int64) (int, error) {
	head, err := ask(http.DefaultClient, http.MethodHead, where, "")
	if err != nil {
		return 0, err
	}
	head.Body.Close()
	total := head.ContentLength
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	if err := file.Truncate(total); err != nil {
		return 0, err
	}
	direct, err := place(where)
	if err != nil {
		return 0, err
	}
	size := min(max(total/partsMax, partLeast), partMost)
	var waiting sync.WaitGroup
	places := make(chan struct{}, partsMax)
	failures := make(chan error, total/size+1)
	parts := 0
	for start := int64(0); start < total; start += size {
		parts += 1
		waiting.Add(1)
		places <- struct{}{}
		go func(start, end int64) {
			defer waiting.Done()
			defer func() { <-places }()
			if err := fetchPart(direct, file, start, end); err != nil {
				failures <- err
			}
		}(start, min(start+size, total))
	}
	waiting.Wait()
	close(failures)
	return parts, <-failures
}

// fetchPart does not look at the status: what is sent is written where the part belongs, and asked again
// from where it broke off.
func fetchPart(where *url.URL, file *os.File, start, end int64) error {
	var failure error
	for try := 0; try < triesMax && start < end; try++ {
		request, err := http.NewRequest(http.MethodGet, where.String(), nil)
		if err != nil {
			return err
		}
		request.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", start, end-1))
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			failure = err
			continue
		}
		written, err := io.CopyN(io.NewOffsetWriter(file, start), answer.Body, end-start)
		answer.Body.Close()
		if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			start += written
		}
		failure = err
	}
	return failure
}

func check(path string, wanted layer) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	digest := sha256.New()
	size, err := io.Copy(digest, file)
	if err != nil {
		return err
	}
	if found := fmt.Sprintf("sha256:%x", digest.Sum(nil)); found != wanted.Digest || size != wanted.Size {
		return fmt.Errorf("digest mismatch, file must be downloaded again: want %s, got %s", wanted.Digest, found)
	}
	return nil
}
