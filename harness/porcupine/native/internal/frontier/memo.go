package frontier

import "slices"

// memo remembers records, but for those that another one makes needless.
type memo struct {
	*pool
	counts *counts
	heads  []int32 // by hash of what must be equal: the first record of a chain, or none
	next   []int32 // by record: the next one of its chain, or none
	gone   []bool  // by record: a later one made it needless
}

func newMemo(width int, counts *counts) *memo {
	return &memo{pool: newPool(width), counts: counts, heads: slices.Repeat([]int32{none}, 64)}
}

// clear forgets everything and keeps the memory.
func (m *memo) clear() {
	for place := range m.count {
		m.heads[m.head(m.get(place))] = none
	}
	m.count, m.next, m.gone = 0, m.next[:0], m.gone[:0]
}

// remember adds a record, unless a known one of the same event makes it needless.
func (m *memo) remember(r record) bool {
	if m.count >= len(m.heads) {
		m.grow()
	}
	link := &m.heads[m.head(r)]
	first := link
	for *link != none {
		place := *link
		if known := m.get(int(place)); comparable(known, r) {
			if m.serves(known, r) {
				return false
			}
			if m.serves(r, known) {
				m.gone[place] = true
				*link = m.next[place]
				continue
			}
		}
		link = &m.next[place]
	}
	m.next = append(m.next, *first)
	m.gone = append(m.gone, false)
	*first = int32(m.count)
	m.add(r)
	return true
}

func (m *memo) grow() {
	m.heads = slices.Repeat([]int32{none}, 4*len(m.heads))
	for place := range m.count {
		if m.gone[place] {
			continue
		}
		head := &m.heads[m.head(m.get(place))]
		m.next[place], *head = *head, int32(place)
	}
}

func (m *memo) head(r record) uint64 {
	const odd = 0x9e3779b97f4a7c15
	sum := (r[0]>>32)*odd ^ (r[1] >> 1)
	for _, word := range r.placed() {
		sum = (sum*odd ^ word) * odd
		sum ^= sum >> 29
	}
	sum *= odd
	return (sum ^ sum>>32) & uint64(len(m.heads)-1)
}

// comparable tells whether two records differ only in what may be better in one of them.
func comparable(a, b record) bool {
	return a.state() == b.state() && a.event() == b.event() && slices.Equal(a.placed(), b.placed())
}

// serves tells whether everything that can follow `b` can follow `a`, of two comparable records: fewer unknown
// operations are used, and no operation waits that does not in `b`.
func (m *memo) serves(a, b record) bool {
	if a.hungry() && !b.hungry() {
		return false
	}
	eased := a.eased()
	for word, set := range b.eased() {
		if set&^eased[word] != 0 {
			return false
		}
	}
	return m.counts.atMost(a.used(), b.used())
}

func (m *memo) bytes() int64 {
	return m.pool.bytes() + 4*int64(len(m.heads)) + 5*int64(cap(m.next))
}
