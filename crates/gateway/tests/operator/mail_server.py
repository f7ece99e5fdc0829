"""A mail server for one test: prints its address, and then each mail, as lines of JSON.

Takes mail only from who signs in with the name and the password that it is given. With a
certificate and its key it speaks TLS from the first byte.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

user, password, *pem = sys.argv[1:]


def say(document):
    print(json.dumps(document), flush=True)


def signs_in(server, session, envelope, mechanism, given):
    good = given.login == user.encode() and given.password == password.encode()
    # Not handled here: the server answers.
    return AuthResult(success=good, handled=False)


class Keep:
    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": {name.lower(): value for name, value in mail.items()},
            "content_type": mail.get_content_type(),
            "text": mail.get_content(),
            "raw": envelope.content.decode("ascii"),
        })
        return "250 kept"


tls = None
if pem:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*pem)


def connection():
    return SMTP(Keep(), authenticator=signs_in, auth_required=True, auth_require_tls=False)


async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(connection, "127.0.0.1", 0, ssl=tls)
    host, port = server.sockets[0].getsockname()
    say({"address": f"{host}:{port}"})
    await server.serve_forever()


asyncio.run(serve())
