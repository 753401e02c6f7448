#!/bin/sh
# Makes the certificates of this folder: two authorities and three certificates, for a hundred years.
set -eu
DAYS=36500
EC='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
printf 'subjectAltName=DNS:dr.example,IP:127.0.0.1\n' > ext
for name in ours theirs; do
  # shellcheck disable=SC2086 # several options
  openssl req -x509 $EC -keyout "$name.authority-key" -out "$name.crt" -subj "/CN=$name" -days "$DAYS"
done
issue() {
  # shellcheck disable=SC2086 # several options
  openssl req $EC -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"
  openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.authority-key" -CAcreateserial \
    -out "$1.crt" -days "$DAYS" -extfile ext
}
issue server ours
issue client ours
issue stranger theirs
rm -f ./*.csr ./*.srl ./*.authority-key ext
