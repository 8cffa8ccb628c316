# The echoes as bars, in PNG and SVG: gnuplot -e "data='FILE'; out='NAME'" plot.gp
set datafile separator "\t"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.9 noborder
set title "Echoes: time taken, plain C node = 1 (less is better, all on one core)"
set yrange [0:5]
set grid ytics
set key top center horizontal
array names[4] = ["C, batched", "second BEAM", "lunode", "lunode, untrusted"]
do for [format in "png svg"] {
    if (format eq "png") { set terminal pngcairo size 1200,500 }
    if (format eq "svg") { set terminal svg size 1200,500 background "white" }
    set output out.".".format
    plot for [i=1:4] data using i + 1:xtic(1) title names[i], 1 with lines dashtype 2 linecolor "black" notitle
}
