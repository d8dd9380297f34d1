package shrink

import (
	"slices"

	"aftershock/native/internal/history"
)

// bank: reads go alone; a transfer is opened, and goes once it begins too late for anybody. Accounts may be counted
// together: what is true of every account is true of their sum, and transfers among them are no more.
type bank struct{}

func (bank) keep(c Case, marked []bool) []Case {
	kept := make([]history.Op, 0, len(c.Ops))
	for i := range c.Ops {
		if marked[i] || c.Ops[i].F == history.Transfer || c.anchored(&c.Ops[i]) {
			kept = append(kept, c.Ops[i])
		}
	}
	return []Case{tidy(c.with(kept))}
}

func (bank) drop(c Case, gone []bool) Case {
	kept := make([]history.Op, 0, len(c.Ops))
	for i, op := range c.Ops {
		if gone[i] && op.F == history.Transfer {
			open(&op)
		} else if gone[i] && !c.anchored(&op) {
			continue
		}
		kept = append(kept, op)
	}
	return tidy(c.with(kept))
}

// total counts all accounts together, if their sum alone is wrong somewhere.
func total(c Case, illegal Illegal) Case {
	accounts := accountsOf(c.Initial)
	if len(accounts) < 2 || !sane(c, accounts) {
		return c
	}
	if all := together(c, accounts); len(all.Ops) > 0 && illegal(all) {
		return all
	}
	return c
}

// merge counts as many accounts as possible together: all but one, or else any two of them.
func merge(c Case, illegal Illegal) Case {
	accounts := accountsOf(c.Initial)
	if len(accounts) < 2 || !sane(c, accounts) {
		return c
	}
	for i := range accounts {
		rest := slices.Delete(slices.Clone(accounts), i, i+1)
		if len(rest) < 2 {
			return c
		}
		if most := together(c, rest); len(most.Ops) > 0 && illegal(most) {
			return most
		}
	}
	for i := 0; i < len(accounts); i++ {
		for j := i + 1; j < len(accounts); {
			pair := together(c, []int64{accounts[i], accounts[j]})
			if !illegal(pair) {
				j++
				continue
			}
			c = pair
			accounts = slices.Delete(accounts, j, j+1)
		}
	}
	return c
}

func accountsOf(initial []int64) []int64 {
	var accounts []int64
	for i := 0; i+1 < len(initial); i += 2 {
		accounts = append(accounts, initial[i])
	}
	return accounts
}

// sane tells whether every operation speaks of the accounts that there are, and every read of each of them once.
func sane(c Case, accounts []int64) bool {
	for i := range c.Ops {
		op := &c.Ops[i]
		if op.F == history.ReadAll && !namesEach(op.Items, accounts) {
			return false
		}
		known := slices.Contains(accounts, op.Expected) && slices.Contains(accounts, op.Version)
		if op.F == history.Transfer && !known {
			return false
		}
	}
	return true
}

// namesEach tells whether a read has one balance for each account.
func namesEach(items, accounts []int64) bool {
	named := map[int64]bool{}
	for i := 0; i+1 < len(items); i += 2 {
		named[items[i]] = true
	}
	for _, account := range accounts {
		if !named[account] {
			return false
		}
	}
	return len(named) == len(accounts) && len(items) == 2*len(accounts)
}

// together counts accounts with the first of them.
func together(c Case, accounts []int64) Case {
	first := accounts[0]
	joined := map[int64]bool{}
	merged := slices.Clone(c.Merged)
	for _, account := range accounts[1:] {
		joined[account] = true
		merged = append(merged, account, first)
	}
	as := func(account int64) int64 {
		if joined[account] {
			return first
		}
		return account
	}
	kept := make([]history.Op, 0, len(c.Ops))
	for _, op := range c.Ops {
		if op.F == history.Transfer {
			op.Expected, op.Version = as(op.Expected), as(op.Version)
			if op.Expected == op.Version {
				continue
			}
		}
		op.Items = summed(op.Items, as)
		kept = append(kept, op)
	}
	return Case{Ops: kept, Initial: summed(c.Initial, as), Base: c.Base, Merged: merged, Anchor: c.Anchor}
}

func summed(pairs []int64, as func(int64) int64) []int64 {
	if pairs == nil {
		return nil
	}
	sums := map[int64]int64{}
	var order []int64
	for i := 0; i+1 < len(pairs); i += 2 {
		account := as(pairs[i])
		if _, there := sums[account]; !there {
			order = append(order, account)
		}
		sums[account] += pairs[i+1]
	}
	result := make([]int64, 0, 2*len(order))
	for _, account := range order {
		result = append(result, account, sums[account])
	}
	return result
}
