# Opens streams of pglog as dockerd does, and writes ten lines a second to each. Says "open", then "written"
# after each round. Without a single quote, since a shell has it between two.
use strict;
use warnings;
use Fcntl;
use POSIX ();
use Socket;

my ($socket, $directory, $count) = @ARGV;
$| = 1;

sub call {
    my ($path, $body) = @_;
    socket(my $peer, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
    connect($peer, sockaddr_un($socket)) or die "connect: $!";
    my $length = length $body;
    my $request = "POST $path HTTP/1.1\r\nHost: plugin\r\nConnection: close\r\nContent-Length: $length\r\n\r\n$body";
    syswrite($peer, $request) == length $request or die "request: $!";
    my $answer = join "", <$peer>;
    $answer =~ /\{"Err":""\}\s*$/ or die "$path: $answer";
}

sub varint {
    my ($number, $bytes) = (shift, "");
    while ($number >= 128) { $bytes .= chr($number & 127 | 128); $number >>= 7 }
    return $bytes . chr $number;
}

my @streams;
for my $n (1 .. $count) {
    my $name = sprintf "stream%058d", $n;
    my $path = "$directory/$name";
    POSIX::mkfifo($path, 0700) or die "$path: $!";
    # Both ways, so that it is open before anybody reads.
    sysopen(my $fifo, $path, O_RDWR | O_NONBLOCK) or die "$path: $!";
    my $info = qq({"ContainerID": "$name", "ContainerName": "/n$n", "Config": {}});
    call("/LogDriver.StartLogging", qq({"File": "/run/docker/logging/$name", "Info": $info}));
    push @streams, $fifo;
}
print "open\n";

for (my $round = 0; ; $round++) {
    my $body = "\x0a\x06stdout\x10" . varint(time * 1_000_000_000);
    for my $line (1 .. 10) {
        my $text = "line $line of round $round, of about a hundred bytes, as a server that is not busy writes it " . "." x 20;
        my $entry = $body . "\x1a" . varint(length $text) . $text;
        my $frame = pack("N", length $entry) . $entry;
        for my $fifo (@streams) { syswrite($fifo, $frame) == length $frame or die "write: $!" }
    }
    print "written\n";
    select(undef, undef, undef, 1);
}
