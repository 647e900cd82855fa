//! What servers that speak TLS are given.

/// A certificate for `localhost` and the one that vouches for it, made by a shell in its directory.
pub(crate) const CERTIFICATES: &str = r"
openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=ca -days 2 -keyout ca.key -out ca.pem
openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout key.pem -out request
echo subjectAltName=DNS:localhost >extensions
openssl x509 -req -in request -CA ca.pem -CAkey ca.key -days 2 -extfile extensions -out cert.pem
";
