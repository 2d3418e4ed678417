package rules

// timers is a heap of all instances by what is due next, those of one time in
// order of their rules' depth and then of their making. A timer mostly moves away with each reading; so that this
// costs nothing, the heap stands by due, which is next or earlier, and is brought
// up to date when due comes.
type timers []*instance

func (h timers) less(i, j int) bool {
	if h[i].due != h[j].due {
		return h[i].due < h[j].due
	}
	if a, b := h[i].rule.depth, h[j].rule.depth; a != b {
		return a < b // who asks for another rule comes after it
	}
	return h[i].index < h[j].index
}

func (h timers) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *timers) push(in *instance) {
	in.pos, in.due = len(*h), in.next
	*h = append(*h, in)
	h.up(in.pos)
}

// fix takes the change of an instance's next into account.
func (h timers) fix(in *instance) {
	if in.next < in.due {
		in.due = in.next
		h.up(in.pos)
	}
}

func (h timers) up(i int) {
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h timers) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h.less(child, least) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.swap(i, least)
		i = least
	}
}

// next returns when the first timer is due, or never, and has that instance stand
// first. Nothing up to and including limit is missed; what it returns beyond may
// be early.
func (h timers) next(limit int64) int64 {
	if len(h) == 0 {
		return never
	}
	for h[0].due <= limit && h[0].due < h[0].next {
		h[0].due = h[0].next
		h.down(0)
	}
	return h[0].due
}
