# The program behind /usr/sbin/wayhomed; the package is in this file's own folder.
from wayhomed.agent.main import main

main()
