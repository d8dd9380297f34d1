package history

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// ReadInput returns all that is left of a file. A regular one, which the binding's anonymous memory is, is mapped and
// so neither copied nor held twice; `mapped` is the number of bytes that this adds to the resident size.
func ReadInput(file *os.File) (data []byte, mapped int, err error) {
	about, err := file.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !about.Mode().IsRegular() || about.Size() == 0 {
		data, err = io.ReadAll(file)
		return data, 0, err
	}
	at, err := file.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, 0, err
	}
	size := int(about.Size())
	if at > about.Size() {
		return nil, 0, errors.New("the input is positioned behind its end")
	}
	data, err = syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		data, err = io.ReadAll(file) // some file systems cannot map
		return data, 0, err
	}
	return data[at:], size, nil
}
