package frontier

// fanOut is the number of counts in a leaf, and of children in an inner node.
const (
	fanOut     = 16
	fanOutBits = 4
)

// nodeBytes is about what a node costs, with its place in the index.
const nodeBytes = 200

// counts keeps vectors of numbers, one number a class of unknown operations, as trees that share whatever is equal.
// A vector is the place of its root, so equal vectors are equal numbers, and a step along a path of the search costs a
// few nodes even where there are many thousands of classes. Place 0 is all zeros, at every height.
type counts struct {
	height int // levels of inner nodes above the leaves
	nodes  [][fanOut]uint32
	index  map[[fanOut]uint32]uint32
}

func newCounts(classes int) *counts {
	c := &counts{nodes: make([][fanOut]uint32, 1), index: map[[fanOut]uint32]uint32{{}: 0}}
	for reach := fanOut; reach < classes; reach *= fanOut {
		c.height++
	}
	return c
}

// get returns the number of a class.
func (c *counts) get(vector uint32, class int32) uint32 {
	for level := c.height; level >= 0; level-- {
		vector = c.nodes[vector][class>>(level*fanOutBits)&(fanOut-1)]
	}
	return vector
}

// with returns the vector in which a class has a certain number.
func (c *counts) with(vector uint32, class int32, number uint32) uint32 {
	return c.withAt(vector, class, number, c.height)
}

func (c *counts) withAt(vector uint32, class int32, number uint32, level int) uint32 {
	node := c.nodes[vector]
	child := &node[class>>(level*fanOutBits)&(fanOut-1)]
	if level == 0 {
		*child = number
	} else {
		*child = c.withAt(*child, class, number, level-1)
	}
	place, known := c.index[node]
	if !known {
		place = uint32(len(c.nodes))
		c.nodes = append(c.nodes, node)
		c.index[node] = place
	}
	return place
}

// atMost tells whether no number of `a` is larger than that of `b`.
func (c *counts) atMost(a, b uint32) bool { return c.atMostAt(a, b, c.height) }

func (c *counts) atMostAt(a, b uint32, level int) bool {
	if a == b || a == 0 {
		return true
	}
	for i := range fanOut {
		one, other := c.nodes[a][i], c.nodes[b][i]
		if level == 0 && one > other || level > 0 && !c.atMostAt(one, other, level-1) {
			return false
		}
	}
	return true
}

func (c *counts) bytes() int64 { return int64(len(c.nodes)) * nodeBytes }
