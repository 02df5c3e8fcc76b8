# The program behind /usr/bin/wayhomectl; the package is in this file's own folder.
from wayhomed.agent.wayhomectl import main

main()
