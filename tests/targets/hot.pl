# Perl that calls Perl, and its own comparison out of sort.
use strict;
use warnings;

$| = 1;

sub fib {
    my $n = shift;
    return $n < 2 ? $n : fib($n - 1) + fib($n - 2);
}

alarm 120;
print "ready\n";
while (1) {
    fib(12);
    my @sorted = sort { $b <=> $a } map { $_ * 7919 % 1009 } 1 .. 500;
    (my $text = 'abababc' x 200) =~ s/((?:a|b)*c)/\U$1/g;
}
