#!/bin/sh
# Makes the Secrets that the base needs, without cert-manager: certificates of an authority of its own for a year, and tokens.
# Writes YAML to standard output, for `kubectl apply --filename -`, and keeps nothing. Needs OpenSSL 3.
#
#   deploy/kubernetes/make-secrets.sh | kubectl apply --filename -
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
umask 077
new="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
# The words of $new are options.
# shellcheck disable=SC2086
openssl req -x509 $new -days 3650 -subj "/CN=walcast authority" -keyout ca.key -out ca.pem 2>/dev/null
for role in primary replica; do
    # More names for the certificates, as openssl writes them: WALCAST_NAMES=IP:10.0.0.7,DNS:db.example
    names="DNS:walcast-$role,DNS:localhost${WALCAST_NAMES:+,$WALCAST_NAMES}"
    # shellcheck disable=SC2086
    openssl req -new $new -subj "/CN=walcast-$role" -addext "subjectAltName=$names" -addext "extendedKeyUsage=serverAuth" \
        -keyout $role.key -out $role.csr 2>/dev/null
    openssl x509 -req -in $role.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -copy_extensions copy \
        -out $role.pem 2>/dev/null
    cat <<END
apiVersion: v1
kind: Secret
metadata:
  name: walcast-$role-tls
type: kubernetes.io/tls
data:
  ca.crt: $(base64 <ca.pem | tr -d '\n')
  tls.crt: $(base64 <$role.pem | tr -d '\n')
  tls.key: $(base64 <$role.key | tr -d '\n')
---
END
done
# In quotes: a token of digits and one e would be a number.
cat <<END
apiVersion: v1
kind: Secret
metadata:
  name: walcast-tokens
stringData:
  replica: "$(openssl rand -hex 32)"
  app: "$(openssl rand -hex 32)"
  monitor: "$(openssl rand -hex 32)"
  operator: "$(openssl rand -hex 32)"
END
