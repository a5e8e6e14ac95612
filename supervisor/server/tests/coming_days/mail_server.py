"""A mail server on loopback that asks for a password. Says its port, then each mail in a line."""

import asyncio
import json

from aiosmtpd.smtp import SMTP, AuthResult


class Box:
    async def handle_DATA(self, server, session, envelope):
        text = envelope.content.decode("utf-8", "replace")
        print(json.dumps([envelope.mail_from, envelope.rcpt_tos, text]), flush=True)
        return "250 Kept"


def is_known(server, session, envelope, mechanism, data):
    known = (b"depot", b"secret")
    return AuthResult(success=(data.login, data.password) == known, handled=False)


async def serve():
    def session():
        return SMTP(Box(), hostname="localhost", authenticator=is_known,
                    auth_required=True, auth_require_tls=False)
    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(serve())
