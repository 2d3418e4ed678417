package rules

// timers is a heap of all instances by what is due next, those of one time in
// order of their making.
type timers []*instance

func (h timers) less(i, j int) bool {
	if h[i].next != h[j].next {
		return h[i].next < h[j].next
	}
	return h[i].index < h[j].index
}

func (h timers) swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].pos, h[j].pos = i, j
}

func (h *timers) push(in *instance) {
	in.pos = len(*h)
	*h = append(*h, in)
	h.fix(in)
}

// fix puts an instance into its place after its next has changed.
func (h timers) fix(in *instance) {
	i := in.pos
	for i > 0 && h.less(i, (i-1)/2) {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
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

// next returns when the first timer is due, or never.
func (h timers) next() int64 {
	if len(h) == 0 {
		return never
	}
	return h[0].next
}
