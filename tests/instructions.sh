#!/bin/sh
# A guard against getting slower that a busy machine doesn't disturb: instructions, counted by
# callgrind. What decoding, encoding and handing a message to its handler take has a ceiling each,
# for Debian 12 on amd64; what takes fewer for good deserves a lower one. And a handler computes
# like the plain program lua5.4: with up to 5 % more, since under callgrind its slices are many.
# Takes half a minute.
#
#     tests/instructions.sh [PROGRAM]     without one: build/lunode
set -eu
cd "$(dirname "$0")/.."
. tests/packages.sh
need_packages lua5.4 valgrind
program=${1:-build/lunode}
export BUNDLEX_ERLANG_COOKIE=none
epmd -daemon
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# count COMMAND...: all its instructions, start and end included; 0 when it can't be run.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" </dev/null 2>&1 |
        sed -nE 's/.*Collected : ([0-9]+).*/\1/p' | grep . || echo 0
}

# in_handler LUA: the same for a node with this handler, which ends it.
in_handler() {
    printf '%s\n' "$1" >"$folder/counted.lua"
    count "$program" start --name "instructions_$$" "$folder/counted.lua"
}

# verdict VALUE LEAST MOST: what takes far too few did not do its work.
verdict() {
    if [ "$1" -ge "$2" ] && [ "$1" -le "$3" ]; then
        echo passed
    else
        echo failed
    fi
}

# ceiling NAME MOST TIMES HANDLER: what one time more takes; `n` is how often.
ceiling() {
    many=$(in_handler "local n = $((1 + $3)) $terms $4")
    once=$(in_handler "local n = 1 $terms $4")
    took=$(((many - once) / $3))
    printf '%s %s: %d instructions, %d at most\n' \
        "$(verdict "$took" $(($2 / 2)) "$2")" "$1" "$took" "$2"
}

# convert TERM MOST-TO-DECODE MOST-TO-ENCODE TIMES
convert() {
    ceiling "decode $1" "$2" "$4" "local b = erl.encode($1)
        return { init = function() for _ = 1, n do erl.decode(b) end os.exit(0) end }"
    ceiling "encode $1" "$3" "$4" "local t = erl.decode(erl.encode($1))
        return { init = function() for _ = 1, n do erl.encode(t) end os.exit(0) end }"
}

# compute NAME SMALL LARGE LUA: what work(LARGE) takes more than work(SMALL), beside lua5.4.
compute() {
    for size in "$2" "$3"; do
        echo "$4 work($size)" >"$folder/plain.lua"
        plain=$(($(count lua5.4 "$folder/plain.lua") - ${plain:-0}))
        handler=$(($(in_handler "$4 return { init = function() work($size) os.exit(0) end }") - \
            ${handler:-0}))
    done
    share=$((handler * 1000 / plain))
    printf '%s compute %s: %d thousandths of what lua5.4 takes, 1050 at most\n' \
        "$(verdict "$share" 900 1050)" "$1" "$share"
    unset plain handler
}

terms='
local integers, map, items = {}, {}, {}
for i = 1, 1000 do
  integers[i] = i * 7
  map["key " .. i] = i
end
for i = 1, 100 do
  items[i] = { id = i, name = "item number " .. i, price = i * 1.25,
    tags = { "new", "sale", "x" .. i }, stock = { here = i, there = erl.null, open = true } }
end
local document = { id = 1, items = items }
local small = erl.tuple(atom.add, 5)
'

{
    convert small 3300 4500 2000
    convert integers 120000 280000 50
    convert map 1150000 680000 50
    convert document 1400000 940000 20
    ceiling "cast and handle" 12800 2000 '
        local handler = {}
        function handler:init()
          self.left = n
          for i = 1, n do erl.cast(erl.self(), erl.tuple(atom.count, i)) end
        end
        function handler:count()
          self.left = self.left - 1
          if self.left == 0 then os.exit(0) end
        end
        return handler'
    compute calls 5 18 '
        local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
        local function work(n) return fib(n) end'
    compute floats 10 100000 '
        local function work(n)
          local x = 0.5
          for i = 1, n do x = x * 1.0000001 + i / 3.0 - x * 0.5 end
          return x
        end'
    compute strings 10 5000 '
        local function work(n)
          local t = {}
          for i = 1, n do t[#t + 1] = ("item %d"):format(i) .. "-" .. i end
          return #table.concat(t, ",")
        end'
} | tee "$folder/verdicts"
! grep -q '^failed' "$folder/verdicts"
