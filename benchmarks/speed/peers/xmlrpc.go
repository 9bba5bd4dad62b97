// XML-RPC on net/http and encoding/xml, without a log and without checks.
//
// It prints its port, and serves add, echo and sleep at /RPC2 until it is terminated. A goroutine serves each
// connection, so the names addAsync, addThread and the like stand for the same functions.
package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

type value struct {
	Int     *int64   `xml:"int"`
	Double  *float64 `xml:"double"`
	Boolean *int     `xml:"boolean"`
	String  *string  `xml:"string"`
	Struct  *object  `xml:"struct"`
	Array   *list    `xml:"array"`
}

type object struct {
	Members []member `xml:"member"`
}

type member struct {
	Name  string `xml:"name"`
	Value value  `xml:"value"`
}

type list struct {
	Values []value `xml:"data>value"`
}

type call struct {
	XMLName xml.Name `xml:"methodCall"`
	Method  string   `xml:"methodName"`
	Params  []value  `xml:"params>param>value"`
}

type response struct {
	XMLName xml.Name `xml:"methodResponse"`
	Value   value    `xml:"params>param>value"`
}

type method func(params []value) (value, error)

var errParams = errors.New("invalid params")

func add(params []value) (value, error) {
	if len(params) != 2 || params[0].Int == nil || params[1].Int == nil {
		return value{}, errParams
	}
	sum := *params[0].Int + *params[1].Int
	return value{Int: &sum}, nil
}

func echo(params []value) (value, error) {
	if len(params) != 1 {
		return value{}, errParams
	}
	return params[0], nil
}

func sleep(params []value) (value, error) {
	if len(params) != 1 || params[0].Int == nil {
		return value{}, errParams
	}
	time.Sleep(time.Duration(*params[0].Int) * time.Second)
	done := "done"
	return value{String: &done}, nil
}

var methods = map[string]method{
	"add": add, "addAsync": add, "addThread": add, "echo": echo, "sleepAsync": sleep, "sleepThread": sleep,
}

func serve(writer http.ResponseWriter, request *http.Request) {
	var asked call
	if err := xml.NewDecoder(request.Body).Decode(&asked); err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	found, known := methods[asked.Method]
	if !known {
		http.Error(writer, "no such method", http.StatusNotFound)
		return
	}
	result, err := found(asked.Params)
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	body, err := xml.Marshal(response{Value: result})
	if err != nil {
		http.Error(writer, err.Error(), http.StatusInternalServerError)
		return
	}
	writer.Header().Set("Content-Type", "text/xml")
	writer.Header().Set("Content-Length", strconv.Itoa(len(xml.Header)+len(body)))
	writer.Write([]byte(xml.Header))
	writer.Write(body)
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("ready at http://%s/\n", listener.Addr())
	http.HandleFunc("/RPC2", serve)
	http.Serve(listener, nil)
}
